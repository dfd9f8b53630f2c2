"""Which cases are the same image, and which must stay in one split. Pure."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from hashlib import sha256
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from catalog.licences import licence
from fusion.bundle.content import split_names
from fusion.imaging.boxes import Boxes, as_boxes, matched, moved, ras_step
from fusion.imaging.detail import OTHER_DETAIL, SAME_DETAIL, detail_correlation, detail_of
from fusion.imaging.hashes import Signatures, shared_slices, shows_slice
from fusion.imaging.pairs import TooManyPairsError, correlations, crossing_pairs, near_pairs
from fusion.imaging.parallel import in_order
from fusion.imaging.registration import aligned_correlation
from fusion.imaging.volume import Array, Picture, Volume

Row = Mapping[str, Any]
Edges = npt.NDArray[np.int64]  # (E, 2) places in the list of cases
Thumb = npt.NDArray[np.uint8]

TIERS = ("subject", "cross_id", "T0", "T1", "T2", "T3", "label_T0")
#: T3: both hashes within CLOSE_BITS are a candidate to be settled; one within WEAK_BITS is looked
#: at a second time.
CLOSE_BITS, WEAK_BITS = 2, 6
#: T4: at least this correlation is the same picture; below the floor alignment is not tried.
SAME_PICTURE, ALIGNABLE = 0.99, 0.5
MOST_PAIRS, MOST_ALIGNED = 20_000_000, 50_000
#: Pairs of volumes whose detail is compared, at most, and volumes whose detail is in memory.
MOST_DETAILED, _DETAILS_KEPT = 5_000, 1_000
#: Same detail in this share: one image; below the second: another one; between, kept together.
DETAIL_THRESHOLDS = {"T4_detail_same": SAME_DETAIL, "T4_detail_other": OTHER_DETAIL}
THRESHOLDS = {
    "T2_slices": 5,
    "T2_containment": 0.5,
    "T3_bits": CLOSE_BITS,
    "T3_weak_bits": WEAK_BITS,
    "T4_correlation": SAME_PICTURE,
}
_BLOCK = 1 << 14  # pairs whose thumbnails are in memory at once
_UNKNOWN = frozenset({"", "-", "na", "n/a", "nan", "none", "null", "unknown"})
_EMPTY: Edges = np.empty((0, 2), np.int64)


@dataclass(frozen=True)
class Access:
    """What the search may look at; each is asked for candidates only.

    Attributes:
        thumb: thumbnail of a case (hashes.look).
        label: harmonised label map of a case in RAS order, None when it has none.
        original: the image as it was read.
    """

    thumb: Callable[[str], Thumb]
    label: Callable[[str], Array | None]
    original: Callable[[str], Volume | Picture]


@dataclass
class Duplicates:
    """Outcome: groups, cases to leave out, findings and counts per tier."""

    group_of: dict[str, str] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)  # case id -> detail
    kept_for: dict[str, str] = field(default_factory=dict)  # case left out -> the copy that stays
    relabelled: dict[str, list[str]] = field(default_factory=dict)  # kept -> copies, other labels
    findings: list[dict[str, Any]] = field(default_factory=list)
    unresolved: list[dict[str, Any]] = field(default_factory=list)  # T3 without T4
    detail: dict[str, int] = field(default_factory=dict)  # pairs of volumes: same, similar, other
    hits: dict[str, int] = field(default_factory=dict)  # pairs found per tier
    merged_by: dict[str, int] = field(default_factory=dict)  # groups joined, tier after tier
    shared: list[dict[str, Any]] = field(default_factory=list)  # {a, b, tiers: {tier: n}}


def find_duplicates(
    cases: Sequence[Row],
    single_group: Mapping[str, str],
    access: Access,
    *,
    rank: Mapping[str, tuple[Any, ...]] | None = None,
    concepts: Sequence[str] = (),
) -> Duplicates:
    """Join what belongs together. The order of `cases` does not matter.

    Args:
        cases: case rows.
        single_group: source id -> group name, for sources whose subjects are unknown.
        access: pixels, asked for candidates only.
        rank: source id -> place when one of several copies is kept, the smallest stays.
        concepts: value v of a label map is concepts[v - 1].
    """
    return _Search(cases, single_group, access, rank or {}, concepts).run()


def copy_rank(
    sources: Sequence[Row], overlaps: Sequence[Row] = ()
) -> dict[str, tuple[int | str, ...]]:
    """Which source's copy stays: labels by people, the freer licence, the original, recipe order.

    Args:
        sources: of a plan, with id and description.
        overlaps: of a plan; `child` names the source that was made from the other.
    """
    children = Counter(str(row.get("child") or "") for row in overlaps)
    out: dict[str, tuple[int | str, ...]] = {}
    for place, source in enumerate(sources):
        description = source["description"]
        stated = description.get("licence") or {}
        free: list[int] = []
        for part in ("images", "labels"):
            terms = licence(stated.get(part))
            gives = (terms.redistribute, terms.adapt, terms.commercial)
            takes = (terms.share_alike, terms.attribution, terms.dua)
            free += [*(-int(one) for one in gives), *(int(one) for one in takes)]
        pseudo = int(description.get("annotation") == "pseudo")
        out[source["id"]] = (pseudo, *free, children[source["id"]], place)
    return out


class _Search:
    def __init__(
        self,
        cases: Sequence[Row],
        single_group: Mapping[str, str],
        access: Access,
        rank: Mapping[str, tuple[Any, ...]],
        concepts: Sequence[str],
    ) -> None:
        self.cases = sorted(cases, key=lambda case: str(case["id"]))
        self.single_group, self.access = single_group, access
        self.rank, self.concepts = rank, concepts
        self.out = Duplicates(hits=dict.fromkeys(TIERS, 0), merged_by=dict.fromkeys(TIERS, 0))
        self.group = np.arange(len(self.cases))  # component of each case, so far
        self.subject = np.zeros(len(self.cases), np.int64)
        self.shared: Counter[tuple[str, str, str]] = Counter()
        self.similar: dict[tuple[int, int], str] = {}  # volumes, and how alike
        self.detail = lru_cache(_DETAILS_KEPT)(self._detail)
        self.detailed = 0

    def run(self) -> Duplicates:
        self.subject = _coded(self._subject(case) for case in self.cases)
        self._join("subject", _runs(self.subject))
        self._join("cross_id", _clusters(self._tokens(_cross_ids)), between_sources=True)
        self._join("T0", _clusters(self._tokens(_file_of)), between_sources=True)
        same = _clusters((n, case["t1"]) for n, case in enumerate(self.cases))
        self._join("T1", same, between_sources=True)
        self._leave_out(same)
        self._join("T2", self._same_slices(), between_sources=True, note="near_duplicate")
        self._looks()
        labels = _clusters((n, key) for n, case in enumerate(self.cases) if (key := _labels(case)))
        self._join("label_T0", labels, note="label_duplicate")
        self._finish()
        return self.out

    def _subject(self, case: Row) -> str:
        single = self.single_group.get(case["source"])
        return single or f"{case['source']}:{case['subject'] or case['name']}"

    def _tokens(self, of: Callable[[Row], Iterable[str]]) -> Iterable[tuple[int, str]]:
        return ((n, token) for n, case in enumerate(self.cases) for token in of(case))

    def _join(
        self,
        tier: str,
        clusters: Sequence[Sequence[int]],
        *,
        between_sources: bool = False,
        note: str = "",
        details: Sequence[str] = (),
    ) -> None:
        """Members of a cluster belong together; counts, groups and findings follow."""
        if not clusters:
            return
        sizes = np.array([len(cluster) for cluster in clusters])
        flat = np.concatenate([np.asarray(cluster, np.int64) for cluster in clusters])
        inner = np.ones(len(flat), bool)
        inner[np.cumsum(sizes)[:-1]] = False
        inner[0] = False
        edges = np.stack([flat[:-1], flat[1:]], axis=1)[inner[1:]]
        self.out.hits[tier] += len(edges)
        self.out.merged_by[tier] += self._merge(edges)
        if between_sources:
            self._count_between(tier, clusters)
        for n, cluster in enumerate(clusters if note else ()):
            first = cluster[0]
            for other in cluster[1:]:
                if note == "near_duplicate" and self.subject[first] == self.subject[other]:
                    continue
                detail = details[n] if details else _TIER_SAYS[tier]
                self._note(note, first, other, detail)

    def _merge(self, edges: Edges) -> int:
        """Groups that an edge joins become one; returns how many fewer there are.

        Only the groups that `edges` touch are looked at: many small joins cost no more than one.
        """
        touched, ends = np.unique(self.group[edges], return_inverse=True)
        graph = coo_array(
            (np.ones(len(edges), np.int8), ends.reshape(edges.shape).T), (len(touched),) * 2
        )
        count, joined = connected_components(graph, directed=False)
        # Every group goes by one of those that it was made of.
        name = np.empty(count, np.int64)
        name[joined[::-1]] = touched[::-1]
        if count < len(touched):
            renamed = np.arange(len(self.group))
            renamed[touched] = name[joined]
            self.group = renamed[self.group]
        return len(touched) - int(count)

    def _count_between(self, tier: str, clusters: Sequence[Sequence[int]]) -> None:
        for cluster in clusters:
            sources = sorted({str(self.cases[n]["source"]) for n in cluster})
            for a, b in combinations(sources, 2):
                self.shared[a, b, tier] += 1

    def _note(self, code: str, first: int, other: int, detail: str, **facts: Any) -> None:
        a, b = (self._named(n) for n in (first, other))
        self.out.findings.append({"code": code, "detail": f"{a} and {b} {detail}", **facts})

    def _named(self, place: int) -> str:
        case = self.cases[place]
        return f"{case['source']}/{case['name']}"

    # Exact copies: one stays.

    def _leave_out(self, clusters: Sequence[Sequence[int]]) -> None:
        classes: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        for cluster in clusters:
            kept, *others = sorted(cluster, key=self._preference)
            for other in others:
                case = self.cases[other]
                tier = "T0" if _same_file(self.cases[kept], case) else "T1"
                detail = f"same image as {self._named(kept)} ({tier})"
                self.out.excluded[case["id"]] = detail
                self.out.kept_for[case["id"]] = self.cases[kept]["id"]
                self._compare_labels(kept, other, classes)
        for (a, b), pairs in sorted(classes.items()):
            different = sum(x != y for x, y in pairs)
            if different:
                kappa = cohen_kappa(pairs)
                shown = "undefined" if kappa is None else f"{kappa:.3f}"
                detail = (
                    f"{a} and {b}: {different} of {len(pairs)} shared images have different "
                    f"classes, kappa {shown}"
                )
                row = {"code": "label_conflict", "detail": detail, "kappa": kappa}
                self.out.findings.append(row)

    def _preference(self, place: int) -> tuple[Any, ...]:
        case = self.cases[place]
        rank = self.rank.get(case["source"], ())
        return (case.get("official_split") != "test", rank, case["source"], case["name"])

    def _compare_labels(
        self, kept: int, other: int, classes: dict[tuple[str, str], list[tuple[str, str]]]
    ) -> None:
        one, two = self.cases[kept], self.cases[other]
        both = [c for c in one["annotated"] if c in two["annotated"]]
        if one.get("classes") and two.get("classes"):
            mine, theirs = (
                "+".join(c for c in both if case["classes"].get(c) == 1) or "none"
                for case in (one, two)
            )
            classes[one["source"], two["source"]].append((mine, theirs))
            if mine != theirs:
                self._note("label_conflict", kept, other, f"differ: {mine} and {theirs}")
        if "boxes" in one and "boxes" in two:
            self._compare_boxes(kept, other, both)
            return
        files = [_harmonised_label(case) for case in (one, two)]
        if not all(files) or (files[0] == files[1] and one["annotated"] == two["annotated"]):
            return
        a, b = (self.access.label(case["id"]) for case in (one, two))
        if a is None or b is None or a.shape != b.shape:
            self._note("label_conflict", kept, other, "have label maps of different shapes")
            return
        values = {c: self.concepts.index(c) + 1 for c in both if c in self.concepts}
        dice = {c: round(_dice(a == v, b == v), 6) for c, v in values.items()}
        if any(score < 1 for score in dice.values()):
            scores = ", ".join(f"{c} {score:.3f}" for c, score in dice.items())
            self._note("label_conflict", kept, other, f"differ, Dice {scores}", dice=dice)
        elif one["annotated"] == two["annotated"]:
            return
        self.out.relabelled.setdefault(one["id"], []).append(two["id"])

    def _compare_boxes(self, kept: int, other: int, both: Sequence[str]) -> None:
        """Boxes of one image by two sources: how many of each, and how many lie on each other."""
        one, two = self.cases[kept], self.cases[other]
        differ = []
        for concept in both:
            a, b = (_boxes(case, concept) for case in (one, two))
            if sorted(a.tolist()) != sorted(b.tolist()):
                same = matched(a, b)
                differ.append(f"{concept} {len(a)} and {len(b)} boxes, {same} in common")
        if differ:
            self._note("label_conflict", kept, other, f"differ (IoU 0.5): {'; '.join(differ)}")
        if differ or one["annotated"] != two["annotated"]:
            self.out.relabelled.setdefault(one["id"], []).append(two["id"])

    # T2: equal slices or channels.

    def _same_slices(self) -> list[tuple[int, int]]:
        """Clusters of two, not of one subject."""
        flat = [n for n, case in enumerate(self.cases) if case.get("t2") and _is_flat(case)]
        solid = [n for n, case in enumerate(self.cases) if case.get("t2") and not _is_flat(case)]
        found = [
            pair
            for cluster in _clusters((n, word) for n in flat for word in _exact(self.cases[n]))
            for pair in pairwise(cluster)
        ]
        found += self._same_volumes(solid)
        found += self._slices_shown(flat, solid)
        different = (pair for pair in found if self.subject[pair[0]] != self.subject[pair[1]])
        # An exact copy has been found before; what is left is a copy that was changed.
        changed = (p for p in different if self.cases[p[0]]["t1"] != self.cases[p[1]]["t1"])
        return list(dict.fromkeys(changed))

    def _same_volumes(self, places: list[int]) -> list[tuple[int, int]]:
        by_t1: dict[str, int] = {}
        for n in places:
            by_t1.setdefault(self.cases[n]["t1"], n)
        chosen = list(by_t1.values())
        signed = [Signatures.from_dict(self.cases[n]["t2"]) for n in chosen]
        pairs = shared_slices([one.tokens() for one in signed])
        return [(chosen[i], chosen[j]) for i, j in pairs if signed[i].same_series(signed[j])]

    def _slices_shown(self, flat: list[int], solid: list[int]) -> list[tuple[int, int]]:
        """Pictures that are a slice of a volume."""
        if not flat or not solid:
            return []
        holders: dict[int, list[int]] = defaultdict(list)
        for n in flat:
            for word in Signatures.from_dict(self.cases[n]["t2"]).tokens().tolist():
                holders[word].append(n)
        found = []
        for m in solid:
            words = Signatures.from_dict(self.cases[m]["t2"]).tokens().tolist()
            for n in sorted({n for word in words for n in holders.get(word, ())}):
                picture, volume = (self.access.original(self.cases[k]["id"]) for k in (n, m))
                if (
                    isinstance(picture, Picture)
                    and isinstance(volume, Volume)
                    and shows_slice(picture, volume)
                ):
                    found.append((n, m))
        return found

    # T3 and T4: looks.

    def _looks(self) -> None:
        for is_flat in (True, False):
            places = [
                n
                for n, case in enumerate(self.cases)
                if case.get("look")
                and _is_flat(case) == is_flat
                and case["id"] not in self.out.excluded
            ]
            if is_flat:
                thumbs = _coded(self.cases[n]["look"]["thumb"] for n in places)
                same = [[places[n] for n in run] for run in _runs(thumbs)]
                different = [c for c in same if len({self.subject[n] for n in c}) > 1]
                equal = ["look the same: equal thumbnails"] * len(different)
                self._join(
                    "T3", different, between_sources=True, note="near_duplicate", details=equal
                )
                first = np.unique(thumbs, return_index=True)[1]
                places = [places[n] for n in first.tolist()]
            self._near(np.array(places, np.int64))
        self._join_similar()

    def _join_similar(self) -> None:
        """Volumes that may be one image and may be two: kept together, and said to be no more."""
        apart = [
            (pair, detail)
            for pair, detail in self.similar.items()
            if self.group[pair[0]] != self.group[pair[1]]
        ]
        if not apart:
            return
        self.out.hits["similar"] = self.out.merged_by["similar"] = 0
        pairs, details = [pair for pair, _ in apart], [detail for _, detail in apart]
        self._join("similar", pairs, note="similar_images", details=details)

    def _near(self, places: npt.NDArray[np.int64]) -> None:
        """Candidates by hash among cases of different subjects, then the second look."""
        if len(places) < 2:  # noqa: PLR2004
            return
        hashes = {
            name: np.array([self.cases[n]["look"][name] for n in places], np.uint64)
            for name in ("phash", "dhash", "phash_mirrored", "dhash_mirrored")
        }
        for bits in (WEAK_BITS, CLOSE_BITS, 0):
            try:
                plain, mirrored = _candidates(hashes, bits)
            except TooManyPairsError:
                continue
            break
        else:
            plain, mirrored, bits = _EMPTY, _EMPTY, -1
        if bits < WEAK_BITS:
            detail = (
                f"{len(places)} images crowd: over {MOST_PAIRS} pairs look alike at {WEAK_BITS} "
                f"bits; " + (f"compared at {bits}" if bits >= 0 else "not compared by their looks")
            )
            self.out.findings.append({"code": "looks_crowded", "detail": detail})
        for pairs, turned in ((plain, False), (mirrored, True)):
            self._second_look(places, hashes, pairs, mirrored=turned)

    def _second_look(
        self,
        places: npt.NDArray[np.int64],
        hashes: Mapping[str, npt.NDArray[np.uint64]],
        pairs: Edges,
        *,
        mirrored: bool,
    ) -> None:
        first, second = places[pairs[:, 0]], places[pairs[:, 1]]
        pairs = pairs[self.subject[first] != self.subject[second]]
        ending = "_mirrored" if mirrored else ""
        bits = np.stack(
            [
                np.bitwise_count(hashes[name + ending][pairs[:, 0]] ^ hashes[name][pairs[:, 1]])
                for name in ("phash", "dhash")
            ]
        )
        order = np.lexsort((pairs[:, 1], pairs[:, 0], bits.max(axis=0), bits.min(axis=0)))
        pairs, closest = pairs[order], bits.max(axis=0)[order]
        aligned, skipped = 0, 0
        for start in range(0, len(pairs), _BLOCK):
            block, close = pairs[start : start + _BLOCK], closest[start : start + _BLOCK]
            apart = self.group[places[block[:, 0]]] != self.group[places[block[:, 1]]]
            block, close = block[apart], close[apart]
            if not len(block):
                continue
            used, local = np.unique(block, return_inverse=True)
            thumbs = np.stack([self.access.thumb(self.cases[n]["id"]) for n in places[used]])
            local = local.reshape(block.shape)
            scores = correlations(thumbs, local, mirrored=mirrored)
            for n in np.flatnonzero((scores < SAME_PICTURE) & (scores >= ALIGNABLE)):
                if aligned >= MOST_ALIGNED:
                    skipped += 1
                    continue
                aligned += 1
                one, two = thumbs[local[n, 0]], thumbs[local[n, 1]]
                scores[n] = aligned_correlation(one[..., ::-1] if mirrored else one, two)
            self._settle(places[block], scores, close, mirrored=mirrored)
        if skipped:
            detail = f"{skipped} pairs of look-alikes were compared without alignment"
            self.out.findings.append({"code": "looks_crowded", "detail": detail})

    def _settle(
        self,
        pairs: Edges,
        scores: npt.NDArray[np.float64],
        bits: npt.NDArray[np.uint8],
        *,
        mirrored: bool,
    ) -> None:
        """Confirmed pairs are joined; close ones without confirmation wait for a person."""
        how = ", mirrored" if mirrored else ""
        sure = scores >= SAME_PICTURE
        group = self.group.copy()
        for n in np.flatnonzero(sure):
            a, b = (int(one) for one in pairs[n])
            if not _is_flat(self.cases[a]) and group[a] != group[b]:
                sure[n] = self._is_one(a, b, scores[n], how, mirrored=mirrored)
                if sure[n]:
                    group[group == group[b]] = group[a]
        details = [f"look the same: correlation {score:.3f}{how}" for score in scores[sure]]
        clusters = [tuple(pair) for pair in pairs[sure].tolist()]
        self._join("T3", clusters, between_sources=True, note="near_duplicate", details=details)
        for n in np.flatnonzero(~sure & (bits <= CLOSE_BITS)):
            a, b = (int(one) for one in pairs[n])
            if (a, b) in self.similar:
                continue
            detail = f"{self._named(a)} and {self._named(b)} look alike: correlation "
            self.out.unresolved.append(
                {
                    "a": self.cases[a]["id"],
                    "b": self.cases[b]["id"],
                    "names": [self._named(a), self._named(b)],
                    "detail": f"{detail}{scores[n]:.3f}{how}",
                }
            )

    def _is_one(self, a: int, b: int, score: float, how: str, *, mirrored: bool) -> bool:
        """Whether the detail of two volumes proves one image; what stays in doubt is noted."""
        found, said = None, "not compared: too many pairs look alike"
        if self.detailed < MOST_DETAILED:
            self.detailed += 1
            one, two = (self.detail(n) for n in (a, b))
            thumbs = [self.access.thumb(self.cases[n]["id"]) for n in (a, b)]
            if mirrored:
                one, thumbs[0] = one[..., ::-1], thumbs[0][..., ::-1]
            found = detail_correlation(one, two, (thumbs[0], thumbs[1]))
            said = "too little to compare" if found is None else f"{found:.3f}"
        verdict = "similar"
        if found is not None and not OTHER_DETAIL <= found < SAME_DETAIL:
            verdict = "same" if found >= SAME_DETAIL else "other"
        self.out.detail[verdict] = self.out.detail.get(verdict, 0) + 1
        if verdict == "similar":
            detail = f"are similar, not proven same: correlation {score:.3f}{how}, of detail {said}"
            self.similar.setdefault((a, b), detail)
        return verdict == "same"

    def _detail(self, place: int) -> Thumb:
        image = self.access.original(self.cases[place]["id"])
        if not isinstance(image, Volume):
            raise TypeError(f"{self._named(place)} is {type(image).__name__}, expected a volume")
        return detail_of(image)

    def _finish(self) -> None:
        smallest: dict[int, str] = {}
        for case, place in zip(self.cases, self.group.tolist(), strict=True):
            smallest.setdefault(place, case["id"])
        names = {g: "g:" + sha256(i.encode()).hexdigest()[:12] for g, i in smallest.items()}
        ids = [case["id"] for case in self.cases]
        self.out.group_of = {i: names[g] for i, g in zip(ids, self.group.tolist(), strict=True)}
        group = self.out.group_of
        self.out.unresolved = [
            row for row in self.out.unresolved if group[row["a"]] != group[row["b"]]
        ]
        pairs: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        for (a, b, tier), n in sorted(self.shared.items()):
            pairs[a, b][tier] = n
        self.out.shared = [{"a": a, "b": b, "tiers": tiers} for (a, b), tiers in pairs.items()]


def overlap_findings(shared: Sequence[Row], overlaps: Sequence[Row]) -> list[dict[str, Any]]:
    """Facts beside the graph: what was found and not known, and what was known and looked for.

    Args:
        shared: of `Duplicates`.
        overlaps: of a plan: {a, b, class, ..}.
    """
    found = {frozenset((row["a"], row["b"])): row["tiers"] for row in shared}
    known = {frozenset((row["a"], row["b"])): row for row in overlaps}
    rows: list[dict[str, Any]] = []
    for row in overlaps:
        tiers = found.get(frozenset((row["a"], row["b"])), {})
        said = _counted(tiers) if tiers else "no shared image or id was found"
        detail = f"{row['a']} and {row['b']} ({row['class']}): {said}"
        rows.append({"code": "overlap_found", "detail": detail, "tiers": tiers})
    for row in shared:
        if frozenset((row["a"], row["b"])) not in known:
            detail = (
                f"{row['a']} and {row['b']}: {_counted(row['tiers'])}; proposed for the catalog's "
                "relations"
            )
            edge = {"a": row["a"], "b": row["b"], "kind": "shared_patients"}
            rows.append(
                {"code": "overlap_found", "detail": detail, "tiers": row["tiers"], "proposed": edge}
            )
    return rows


def _counted(tiers: Mapping[str, int]) -> str:
    return ", ".join(f"{n} by {tier}" for tier, n in tiers.items())


def find_doubts(unresolved: Sequence[Row], cases: Sequence[Row]) -> list[dict[str, Any]]:
    """The pairs of `unresolved` whose cases stand in different splits of one fold."""
    split_of = {case["id"]: split_names(case) for case in cases}
    return [
        dict(row)
        for row in unresolved
        if row["a"] in split_of
        and row["b"] in split_of
        and any(
            split_of[row["b"]].get(fold, split) != split
            for fold, split in split_of[row["a"]].items()
        )
    ]


_TIER_SAYS = {"T2": "hold equal slices or channels (T2)", "label_T0": "have byte-identical labels"}


def _clusters(tokens: Iterable[tuple[int, str]]) -> list[list[int]]:
    """Places with one token, where there are several; in the order in which tokens come first."""
    codes: dict[str, int] = {}
    places, held = array("q"), array("q")
    for place, token in tokens:
        places.append(place)
        held.append(codes.setdefault(token, len(codes)))
    return [[places[n] for n in run] for run in _runs(np.asarray(held, np.int64))]


def _coded(tokens: Iterable[str]) -> npt.NDArray[np.int64]:
    """A number for each token, the same for equal ones; new tokens count upwards."""
    codes: dict[str, int] = {}
    return np.fromiter((codes.setdefault(token, len(codes)) for token in tokens), np.int64)


def _runs(codes: npt.NDArray[np.int64]) -> list[list[int]]:
    """Places that hold the same code, where there are several; in the order of codes."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    ends = np.append(starts[1:], len(codes))
    several = np.flatnonzero(ends - starts > 1)
    spans = zip(starts[several].tolist(), ends[several].tolist(), strict=True)
    return [order[start:end].tolist() for start, end in spans]


def _cross_ids(case: Row) -> list[str]:
    """`scheme:value` of every official id that is known."""
    stated = [str(one) for one in case.get("cross_ids") or ()]
    return [one.casefold() for one in stated if is_known(one.partition(":")[2])]


def is_known(value: str) -> bool:
    """Neither empty nor a word for not knowing."""
    return value.strip().casefold() not in _UNKNOWN


def _file_of(case: Row) -> list[str]:
    """T0; all rows of one array file share its hash, and T1 tells them apart."""
    image = case["origin"]["image"]
    return [] if "row" in image else [image["sha256"]]


def _same_file(one: Row, two: Row) -> bool:
    return bool(_file_of(one)) and _file_of(one) == _file_of(two)


def _exact(case: Row) -> list[str]:
    return list(case["t2"]["exact"])


def _is_flat(case: Row) -> bool:
    return len(case["shape"]) == 2  # noqa: PLR2004


def _labels(case: Row) -> str:
    """Byte-identical labels that hold something; empty masks are alike by nature.

    A file that speaks of many pictures is shared by their cases and tells none from another.
    """
    labels = case["origin"]["labels"]
    if not any(case["present"].values()) or any("entry" in label for label in labels):
        return ""
    return "|".join(label["sha256"] for label in labels)


def _harmonised_label(case: Row) -> str:
    return next((row["sha256"] for row in case.get("files", ()) if row["role"] == "label"), "")


def _boxes(case: Row, concept: str) -> Boxes:
    """The boxes of one concept, in RAS order where the case is a volume."""
    found = (box["corners"] for box in case["boxes"] if box["concept"] == concept)
    return moved(as_boxes(found, len(case["shape"])), ras_step(case))


def _dice(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / total if total else 1.0


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Agreement beyond chance of two raters; None where chance alone agrees."""
    total = len(pairs)
    observed = sum(a == b for a, b in pairs) / total
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(n * second[c] for c, n in first.items()) / total**2
    return None if chance == 1 else round((observed - chance) / (1 - chance), 6)


def _candidates(hashes: Mapping[str, npt.NDArray[np.uint64]], bits: int) -> tuple[Edges, Edges]:
    """Pairs with one of the two hashes within `bits`: as they are, and with the first mirrored."""
    count = len(hashes["phash"])
    names = ("phash", "dhash")
    joins: list[Callable[[], Edges]] = [
        *(partial(near_pairs, hashes[n], bits, MOST_PAIRS) for n in names),
        *(
            partial(crossing_pairs, hashes[f"{n}_mirrored"], hashes[n], bits, MOST_PAIRS)
            for n in names
        ),
    ]
    found = list(in_order(lambda n: joins[n](), len(joins)))
    plain, turned = found[:2], found[2:]
    # Mirrored a beside b is b beside mirrored a: one order of each pair is enough.
    turned = [pairs[pairs[:, 0] < pairs[:, 1]] for pairs in turned]
    return _united(plain, count), _united(turned, count)


def _united(lists: Sequence[Edges], count: int) -> Edges:
    keys = np.unique(np.concatenate([pairs[:, 0] * count + pairs[:, 1] for pairs in lists]))
    return np.stack([keys // count, keys % count], axis=1)

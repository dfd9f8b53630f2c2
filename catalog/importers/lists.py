"""Lists of datasets that others keep, each read row by row into entries.

A row's name is its ref where the list has no ids of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from catalog.importers.cells import (
    Facts,
    addresses,
    exact_number,
    find,
    find_in_text,
    formats,
    is_data_doi,
    is_nothing,
    links,
    narrowest,
    ordered,
    parse_doi,
    parse_number,
    parse_year,
    plain_name,
    read_csv,
    read_json,
    split,
    tasks_in,
    unique_refs,
)
from catalog.importers.entry import Entry, ImportSourceError
from catalog.record import Count, LinkKind, Unit

Row = Mapping[str, str]


def entries(folder: Path) -> Iterator[Entry]:
    """The rows of all lists, list by list."""
    for read in (amid, aws, eva, linhandev, maduc7, mmsegmentation, surgical, torch_em):
        yield from read(folder)


def _objects(path: Path, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    found = read_json(path)
    if not isinstance(found, list):
        raise ImportSourceError(f"{path.name}: found {type(found).__name__}, expected a list")
    for place, row in enumerate(found):
        if missing := [key for key in keys if key not in row]:
            raise ImportSourceError(f"{path.name}: item {place}: expected {', '.join(missing)}")
    return found


# --- AMID

_MR_WORDS = frozenset({"flair", "mri", "mr"})


def amid(folder: Path) -> Iterator[Entry]:
    """`amid/datasets.csv`; `entries` counts the list's own items, of which it does not say what."""
    columns = ("name", "entries", "body_region", "license", "license_url", "modality", "task")
    for row in read_csv(folder / "amid" / "datasets.csv", (*columns, "link")):
        yield parse_amid(row)


def parse_amid(row: Row) -> Entry:
    facts = Facts("amid")
    found, details = amid_modalities(row["modality"])
    facts.state("modalities", found, row["modality"])
    facts.state("modality_details", details, row["modality"] if details else None)
    regions = split(row["body_region"].replace("Abdominal", "Abdomen"), ",")
    facts.state("anatomies", find("anatomy", regions), row["body_region"])
    facts.state("tasks", tasks_in(split(row["task"], ",")), row["task"])
    facts.state_licence(row["license"], row["license_url"])
    number = exact_number(row["entries"])
    return Entry(
        source="amid",
        ref=row["name"],
        name=plain_name(row["name"]),
        links=tuple(links("amid", addresses(row["link"]))),
        facts=facts.claims,
        counts=(Count(number=number, what="entries", source="amid"),) if number else (),
    )


def amid_modalities(text: str) -> tuple[list[str], list[str]]:
    """Terms, and what the words say beyond them ("MRI T1" is MR with the detail "MR: T1")."""
    terms: list[str] = []
    details: list[str] = []
    for word in split(text, ","):
        parts = word.split()
        base = [part for part in parts if part.casefold() in _MR_WORDS]
        rest = " ".join(part for part in parts if part.casefold() not in {"mri", "mr"})
        if base:
            terms.append("MR")
            details += [f"MR: {rest}"] if rest else []
        elif word.casefold().endswith(" ct"):
            terms.append("CT")
            details.append(f"CT: {word[:-3]}")
        elif word != "SEG":
            terms += find("modality", [word])
    return ordered("modality", terms), list(dict.fromkeys(details))


# --- Registry of Open Data on AWS

_AWS_MODALITIES = MappingProxyType(
    {
        "magnetic resonance imaging": "MR",
        "computed tomography": "CT",
        "mammography": "Mammography",
        "x-ray": "X-ray",
        "histopathology": "Histopathology",
    }
)
_AWS_ANATOMIES = MappingProxyType({"neuroimaging": "Brain", "brain images": "Brain"})
_AWS_TASKS = frozenset({"segmentation", "classification"})
_SOFTWARE = frozenset({"MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause"})


def aws(folder: Path) -> Iterator[Entry]:
    """`aws_open_data_registry/medical_imaging.json`; tags name modalities and little else."""
    keys = ("id", "name", "documentation", "tags", "license", "citation", "resources")
    path = folder / "aws_open_data_registry" / "medical_imaging.json"
    for item in _objects(path, (*keys, "publications")):
        yield parse_aws(item)


def parse_aws(item: Mapping[str, Any]) -> Entry:
    tags = [str(tag).casefold() for tag in item["tags"]]
    facts = Facts("aws")
    _state_tags(facts, "modalities", "modality", tags, _AWS_MODALITIES)
    _state_tags(facts, "anatomies", "anatomy", tags, _AWS_ANATOMIES)
    tasks = [tag for tag in tags if tag in _AWS_TASKS]
    facts.state("tasks", find("task", tasks), ", ".join(tasks))
    diseases = [tag for tag in tags if find("disease", [tag])]
    facts.state("diseases", find("disease", diseases), ", ".join(diseases))
    facts.state("file_formats", [name for tag in tags for name in formats(tag)])
    controlled = [row.get("controlled_access") for row in item["resources"]]
    _state_aws_terms(facts, str(item["license"] or ""), str(item["documentation"]), controlled)
    doi = parse_doi(item["citation"])
    facts.state("doi", doi if doi and is_data_doi(doi) else None)
    papers = [str(paper.get("url") or "") for paper in item["publications"] or ()]
    name = plain_name(item["name"])
    pages = addresses(item["documentation"])
    kind: LinkKind = "official" if pages == [item["documentation"].strip()] else "other"
    return Entry(
        source="aws",
        ref=item["id"],
        name=name,
        aliases=tuple(acronyms(name)),
        links=(
            *links("aws", pages, kind),
            *links("aws", _other(papers, pages), "other"),
        ),
        facts=facts.claims,
    )


def acronyms(name: str) -> list[str]:
    """Short forms that a name gives in parentheses: "EMory BrEast Imaging Dataset (EMBED)"."""
    found = re.findall(r"\(([A-Z][\w-]*[A-Z][\w-]*)\)", name)
    return list(dict.fromkeys(found))


def _other(urls: list[str], known: list[str]) -> list[str]:
    return [url for text in urls for url in addresses(text) if url not in known]


def _state_tags(
    facts: Facts, field: str, facet: str, tags: list[str], words: Mapping[str, str]
) -> None:
    used = [tag for tag in tags if tag in words]
    facts.state(field, ordered(facet, (words[tag] for tag in used)), ", ".join(used))


def _state_aws_terms(
    facts: Facts, licence: str, documentation: str, controlled: list[str | None]
) -> None:
    """Licence and access. A licence for software does not fit data behind an access form."""
    facts.state_licence(licence)
    claim = facts.claims.get("licence")
    if claim is not None and claim.value in _SOFTWARE and any(controlled):
        facts.state_unclear("licence", licence)
    terms = re.search(r"agreement|policy", f"{licence} {documentation}", re.IGNORECASE)
    if not any(controlled) and terms is None:
        facts.state("access", "open")


# --- eva

_CANCER_TYPES = MappingProxyType(
    {
        "breast": ("Breast", "Breast cancer"),
        "colorectal": ("Colon", "Colorectal cancer"),
        "colorectal polyp": ("Colon", "Polyp"),
        "prostate": ("Prostate", "Prostate cancer"),
    }
)
_EVA_MODALITIES = (
    ("ct scan", "CT"),
    ("wsi", "Histopathology"),
    ("microscopy", "Microscopy"),
)
_WHAT_EVA = "used by eva"
_MARKS = re.compile(r"[`\\*]")


def eva(folder: Path) -> Iterator[Entry]:
    """`eva/datasets.json`; its numbers are of the part that the benchmark uses."""
    for item in _objects(folder / "eva" / "datasets.json", ("page", "title", "links")):
        yield parse_eva(item)


def parse_eva(item: Mapping[str, Any]) -> Entry:
    cells = {key: _MARKS.sub("", str(value)).strip() for key, value in item.items()}
    facts = Facts("eva")
    modality = cells.get("Modality", "")
    found = [term for word, term in _EVA_MODALITIES if word in modality.casefold()]
    facts.state("modalities", ordered("modality", found), modality)
    planes = ["3D"] if "CT" in found else ["2D"] if found else []
    facts.state("dimensions", planes, cells.get("Image dimension"))
    # Pages on texts have their task in the cell of the modality.
    task = cells.get("Task") or cells.get("Text") or cells.get("Image + Text") or ""
    words = re.sub(r"\(.*?\)|- ?\d+ classes", "", task).strip()
    facts.state("tasks", tasks_in([words]), task)
    facts.state("dimensions", ["Text"] if "Text" in cells else None)
    cancer = cells.get("Cancer type", "")
    if cancer.casefold() in _CANCER_TYPES:
        organ, disease = _CANCER_TYPES[cancer.casefold()]
        facts.state("anatomies", [organ], cancer)
        facts.state("diseases", [disease], cancer)
    kinds = cells.get("Files format", "")
    facts.state("file_formats", formats(kinds.split("/")[0]), kinds)
    facts.state_licence(licence_cell(str(item.get("license") or "")))
    return Entry(
        source="eva",
        ref=cells["page"].removesuffix(".md"),
        name=plain_name(cells["title"]),
        links=tuple(links("eva", filter(_is_data_page, item["links"]), "other")),
        facts=facts.claims,
        counts=tuple(_eva_counts(item, cells)),
    )


def licence_cell(text: str) -> str:
    """A licence out of a plain sentence around it; other texts as they are."""
    sentence = (
        r"(?:The .+? (?:is|are) (?:held|released)|(?:information )?Released) under (?:the )?"
        r"(.+?)(?: license\)?)?\.?"
    )
    match = re.fullmatch(sentence, text.strip())
    inner = match[1] if match else text
    return re.sub(r"^creative commons license \((.*)\)$", r"\1", inner)


def _is_data_page(url: str) -> bool:
    words = r"creativecommons|apache\.org|choosealicense|/LICENSE|/issues/|leaderboard|/discussion"
    return re.search(words, url) is None and "{" not in url and "}" not in url


def _eva_counts(item: Mapping[str, Any], cells: Mapping[str, str]) -> Iterator[Count]:
    unit: Unit | None = None
    for key, kind in (("Number of images", "image"), ("Number of scans", "volume")):
        text = cells.get(key, "")
        number = exact_number(re.sub(r"\s*\(.*\)$", "", text))
        if number:
            unit = kind  # type: ignore[assignment]
            yield Count(number=number, unit=unit, what=_WHAT_EVA, source="eva", raw=text)
    head, *rows = item.get("splits") or [[]]
    for row in rows:
        for split_name, text in zip(head[1:], row[1:], strict=True):
            if number := exact_number(re.sub(r"\s*\(.*\)$", "", text)):
                yield Count(
                    number=number,
                    unit=unit,
                    what=_WHAT_EVA,
                    split="val" if split_name == "Validation" else str(split_name).casefold(),
                    source="eva",
                    raw=text,
                )


# --- linhandev (Chinese)

_ZH_SECTIONS = MappingProxyType(
    {
        "肝脏": "Liver", "肺": "Lung", "胸": "Chest", "脑": "Brain", "肾脏": "Kidney",
        "肠": "Bowel", "心脏": "Heart", "眼睛": "Eye", "前列腺": "Prostate", "胰腺": "Pancreas",
        "皮肤": "Skin", "骨骼": "Bone",
    }
)  # fmt: skip
_ZH_ANATOMIES = MappingProxyType(
    {
        "海马体": "Hippocampus", "左心房": "Left atrium", "眼底血管": "Retina", "结肠": "Colon",
        "椎骨": "Spine", "脊椎": "Spine", "细胞核": "Nuclei", "血细胞": "Blood", "乳腺": "Breast",
        "肺部血管": "Lung", "视盘": "Retina",
    }
)  # fmt: skip
_ZH_DISEASES = MappingProxyType(
    {
        "肺结核": "Tuberculosis", "新冠": "COVID-19", "肺炎": "Pneumonia", "胶质瘤": "Glioma",
        "肺癌": "Lung cancer", "小细胞癌": "Lung cancer", "小細胞癌": "Lung cancer",
        "前列腺癌": "Prostate cancer", "胰腺癌": "Pancreatic cancer",
        "胰腺肿瘤": "Pancreatic cancer",
        "结肠癌": "Colorectal cancer", "肝脏肿瘤": "Liver cancer", "肝肿瘤": "Liver cancer",
        "肾肿瘤": "Kidney cancer", "肺部结节": "Lung nodule", "肺部肿瘤": "Lung cancer",
        "乳腺癌": "Breast cancer", "皮肤癌": "Skin cancer", "DR": "Diabetic retinopathy",
    }
)  # fmt: skip
_ZH_TASKS = MappingProxyType(
    {
        "分割": "Segmentation", "分类": "Classification", "检测": "Detection",
        "目标检测": "Detection", "跟踪": "Tracking", "静态背景动作识别": "Action recognition",
    }
)  # fmt: skip
_ZH_MODALITIES = MappingProxyType(
    {
        "CT 平扫": "CT", "低剂量肺部CT": "CT", "多模态核磁": "MR", "MRI T2WI": "MR",
        "眼底照片": "Fundus photography", "眼底彩色照片": "Fundus photography",
        "视网膜图像": "Fundus photography", "内窥镜": "Endoscopy", "皮肤镜": "Dermoscopy",
    }
)  # fmt: skip
# Microscopy in one section, pathology in the other, either in the rest.
_ZH_SLIDES = MappingProxyType({"镜检": "Microscopy", "数字病理": "Histopathology"})
_ZH_SPLITS = MappingProxyType(
    {"训练": "train", "train": "train", "测试": "test", "test": "test", "验证": "val"}
)
_ZH_UNITS: Mapping[str, Unit] = MappingProxyType(
    {"患者": "subject", "张图片": "image", "图片": "image", "张": "image", "问答": "question"}
)
_ZH_NO_LABELS = "无标签"


def linhandev(folder: Path) -> Iterator[Entry]:
    """`linhandev_dataset/datasets.csv`."""
    columns = ("organ_section_zh", "heading", "name", "url", "annotation_zh", "task_zh", "modality")
    more = ("count", "label_format", "file_format", "license", "license_url")
    rows = read_csv(folder / "linhandev_dataset" / "datasets.csv", (*columns, *more))
    for row, ref in zip(rows, unique_refs((r["name"], r["url"]) for r in rows), strict=True):
        yield parse_linhandev(row, ref)


def parse_linhandev(row: Row, ref: str) -> Entry:
    cells = dict(row)
    if not cells["modality"] and find("modality", [cells["count"]]):  # cells moved to the right
        cells |= {"modality": cells["count"], "count": cells["label_format"], "label_format": ""}
    facts = Facts("linhandev")
    facts.state("modalities", _zh_modalities(cells), cells["modality"])
    section, labels = cells["organ_section_zh"], cells["annotation_zh"]
    organs = {_ZH_SECTIONS.get(section, "")} | {
        term for word, term in _ZH_ANATOMIES.items() if word in labels
    }
    facts.state("anatomies", narrowest("anatomy", organs), f"{section}: {labels}".rstrip(": "))
    tasks = re.split(r"[/ 、]", cells["task_zh"])
    facts.state("tasks", ordered("task", {_ZH_TASKS.get(t, "") for t in tasks}), cells["task_zh"])
    diseases = {term for word, term in _ZH_DISEASES.items() if word in labels}
    facts.state("diseases", ordered("disease", diseases), labels)
    if _ZH_NO_LABELS in (labels, cells["label_format"]):
        facts.state("labelled", False, _ZH_NO_LABELS)
    facts.state("file_formats", formats(cells["file_format"]), cells["file_format"])
    if not is_nothing(cells["license"]):
        facts.state_licence(cells["license"], cells["license_url"])
    return Entry(
        source="linhandev",
        ref=ref,
        name=plain_name(cells["name"]),
        aliases=(cells["heading"],) if _is_alias(cells) else (),
        links=tuple(links("linhandev", addresses(cells["url"]))),
        facts=facts.claims,
        counts=tuple(zh_counts(cells["count"])),
    )


def _is_alias(cells: Row) -> bool:
    """A heading may stand over several rows; it names this one when it shares its beginning."""
    heading, name = cells["heading"].casefold(), cells["name"].casefold()
    return heading != name and (heading[:4] == name[:4] or not heading.isascii())


def _zh_modalities(cells: Row) -> list[str]:
    text, section = cells["modality"], cells["organ_section_zh"]
    if text in _ZH_MODALITIES:
        return [_ZH_MODALITIES[text]]
    if text.startswith("镜检"):
        return [_ZH_SLIDES[section]] if section in _ZH_SLIDES else []
    return find("modality", split(text))


def zh_counts(text: str) -> Iterator[Count]:
    """One number, a sum of plain numbers, or parts by split with their sum."""
    plain = re.sub(r"[（）()]", " ", text).strip()  # noqa: RUF001
    parts = [part.strip() for part in re.split(r"[+/]", plain) if part.strip()]
    read = [re.fullmatch(r"([\d,.]+[Kk]?)\s*([^\d\s]*)", part) for part in parts]
    if not parts or not all(read):
        return
    found = [(parse_number(match[1]), match[2].casefold()) for match in read if match]
    if len(found) > 1 and "+" in text and all(not word or word in _ZH_SPLITS for _, word in found):
        numbers = [number for number, _ in found if number]
        yield Count(number=sum(numbers), source="linhandev", raw=text)
        for number, word in found:
            if number and word:
                split_name = _ZH_SPLITS[word]
                yield Count(number=number, split=split_name, source="linhandev", raw=text)
    elif "+" not in text:
        for number, word in found:
            unit = _ZH_UNITS.get(word)
            if number and (unit or (len(found) == 1 and not word)):
                yield Count(number=number, unit=unit, source="linhandev", raw=text)


# --- maduc7 (histopathology)

_STAINS = MappingProxyType(
    {
        "h&e": "Histopathology", "ihc": "Histopathology", "wright": "Microscopy",
        "giemsa": "Microscopy",
    }
)  # fmt: skip
_ORGAN_DISEASES = MappingProxyType(
    {"crc": ("Colon", "Colorectal cancer"), "endometrial carcinoma": ("Uterus", None)}
)
_SLIDE_UNITS: Mapping[str, Unit] = MappingProxyType(
    {
        "image": "image", "images": "image", "patch": "patch", "patches": "patch", "wsi": "slide",
        "wsis": "slide", "slides": "slide", "patients": "subject", "cells": "cell",
    }
)  # fmt: skip
_NUMBER = r"\d{1,3}(?:[.,]\d{3})+(?![\d.])|\d+(?![\d.,]*\d)"
_SPLIT_WORDS = r"internal test|external test|train|valid(?:ation)?|test"
_LABEL_WORDS = r"mask|label|annot|segment|landmark|bounding|score|caption|answer|roi|phenotype"


def maduc7(folder: Path) -> Iterator[Entry]:
    """`maduc7_histopathology/datasets.csv`; a dot or comma before three digits marks thousands."""
    columns = ("name", "organs", "staining", "data_url", "paper_url", "size", "data", "task")
    path = folder / "maduc7_histopathology" / "datasets.csv"
    rows = read_csv(path, (*columns, "wsi_or_patch", "year"))
    for row, ref in zip(rows, unique_refs((r["name"], r["data_url"]) for r in rows), strict=True):
        yield parse_maduc7(row, ref)


def parse_maduc7(row: Row, ref: str) -> Entry:
    cells = dict(row)
    if cells["task"].startswith("patch") and cells["wsi_or_patch"].startswith("classi"):
        cells |= {"task": row["wsi_or_patch"], "wsi_or_patch": row["task"]}  # swapped cells
    facts = Facts("maduc7")
    stain, kind = cells["staining"], cells["wsi_or_patch"]
    found = {term for word, term in _STAINS.items() if word in stain.casefold()}
    if not found and re.match(r"wsi\b", kind, re.IGNORECASE):
        found = {"Histopathology"}
    facts.state("modalities", ordered("modality", found), stain or kind)
    facts.state("dimensions", ["2D"] if found else None)
    _state_organs(facts, cells["organs"])
    facts.state("tasks", tasks_in(_maduc7_tasks(cells["task"])), cells["task"])
    if re.search(_LABEL_WORDS, cells["data"], re.IGNORECASE):
        facts.state("labelled", True, cells["data"])
    facts.state("year", parse_year(cells["year"]), cells["year"])
    url = cells["data_url"]
    data = url if url.startswith("http") or not url else f"https://{url}"
    return Entry(
        source="maduc7",
        ref=ref,
        name=plain_name(cells["name"].removesuffix(" []")),
        links=tuple(
            {
                link.url: link
                for link in [
                    *links("maduc7", addresses(data)),
                    *links("maduc7", addresses(cells["paper_url"]), "paper"),
                ]
            }.values()
        ),
        facts=facts.claims,
        counts=tuple(maduc7_counts(cells["size"])),
    )


def _maduc7_tasks(text: str) -> Iterator[str]:
    """Words of the task cell; `reg` may mean registration or regression and is left out."""
    for word in re.split(r"[+,]| and ", re.sub(r"\([^)]*\)", "", text)):
        plain = word.strip().casefold()
        if plain and plain != "reg":
            yield re.sub(r"^detection of .*", "detection", plain)


def _state_organs(facts: Facts, text: str) -> None:
    """Organs, a disease named in place of one, and animals."""
    inner = re.fullmatch(r"multiple[^(]*\((?:\d+: )?(\D*)\)", text, re.IGNORECASE)
    outside = re.sub(r"\s*\([^)]*\)|\s+-\s.*$", "", text)
    words = split(re.sub(r"\band\b", ",", inner[1]) if inner else outside, ",;")
    words += split("".join(re.findall(r"\(([^)\d]*)\)", text)), ",") if not inner else []
    organs = set(find("anatomy", words))
    diseases = set(find("disease", words))
    for word in words:
        organ, disease = _ORGAN_DISEASES.get(word.casefold(), (None, None))
        organs |= {organ} if organ else set()
        diseases |= {disease} if disease else set()
    if "canine" in text.casefold():
        organs.add("Animal model")
    facts.state("anatomies", ordered("anatomy", organs), text)
    facts.state("diseases", ordered("disease", diseases), text)


def maduc7_counts(text: str) -> Iterator[Count]:
    """Numbers with a unit, or parts by split; nothing where a unit or a split comes twice."""
    splits = list(re.finditer(rf"\b({_SPLIT_WORDS})\b", text, re.IGNORECASE))
    head = text[: splits[0].start()].strip(" (,;:-") if splits else text
    if not re.search(r"[:>~]|\bset|\band\b", head):
        yield from _maduc7_wholes(head, text)
    if splits:
        yield from _maduc7_splits(text)


def _maduc7_wholes(head: str, text: str) -> Iterator[Count]:
    pattern = rf"({_NUMBER})(k?)\s+(?:tissue |histological )?([a-z]+)\b"
    found: dict[Unit, list[int]] = {}
    for number, scale, word in re.findall(pattern, head, re.IGNORECASE):
        if unit := _SLIDE_UNITS.get(word.casefold()):
            found.setdefault(unit, []).append(_dotted(number) * (1000 if scale else 1))
    for unit, numbers in found.items():
        if len(numbers) == 1:
            yield Count(number=numbers[0], unit=unit, source="maduc7", raw=text)
    bare = re.match(rf"({_NUMBER})(?:\s*\(|$)", head)
    if bare and (number := _dotted(bare[1])):
        yield Count(number=number, source="maduc7", raw=text)


def _maduc7_splits(text: str) -> Iterator[Count]:
    inside = re.search(r"\(\s*train", text, re.IGNORECASE) is not None
    outside = text if inside else re.sub(r"\([^)]*\)", "", text)
    words = re.findall(rf"\b({_SPLIT_WORDS})\b", outside, re.IGNORECASE)
    pattern = rf"\b({_SPLIT_WORDS})\b\s*:?\s*({_NUMBER})(k?)(?=\s*(?:([a-z]+)|[^\w\s.]|$))"
    found = re.findall(pattern, outside, re.IGNORECASE)
    names = [name.casefold() for name, *_ in found]
    known = [not word or word.casefold() in {*_SLIDE_UNITS, "train"} for *_, word in found]
    if len(found) != len(words) or len(set(names)) != len(names) or not all(known):
        return
    for name, number, scale, word in found:
        if value := _dotted(number) * (1000 if scale else 1):
            split_name = "val" if name.casefold().startswith("valid") else name.casefold()
            unit = _SLIDE_UNITS.get(word.casefold())
            yield Count(number=value, unit=unit, split=split_name, source="maduc7", raw=text)


def _dotted(text: str) -> int:
    return int(re.sub(r"\D", "", text))


# --- MMSegmentation, projects/medical

_REGIONS = MappingProxyType({"pulmonary": "Lung", "full body": "Whole body"})


def mmsegmentation(folder: Path) -> Iterator[Entry]:
    """`mmsegmentation_medical/datasets.csv`, typed from excerpts."""
    columns = ("name", "region", "modality", "train_val_test", "release_year")
    path = folder / "mmsegmentation_medical" / "datasets.csv"
    for row in read_csv(path, (*columns, "licence_as_stated")):
        yield parse_mmsegmentation(row)


def parse_mmsegmentation(row: Row) -> Entry:
    facts = Facts("mmsegmentation")
    region = row["region"]
    facts.state("anatomies", find("anatomy", [_REGIONS.get(region, region)]), region)
    facts.state("modalities", find("modality", split(row["modality"])), row["modality"])
    facts.state("tasks", ["Segmentation"])
    facts.state("year", parse_year(row["release_year"]), row["release_year"])
    if not is_nothing(row["licence_as_stated"]):
        facts.state_licence(row["licence_as_stated"])
    return Entry(
        source="mmsegmentation",
        ref=row["name"],
        name=plain_name(row["name"]),
        facts=facts.claims,
        counts=tuple(_mm_counts(row["train_val_test"])),
    )


def _mm_counts(text: str) -> Iterator[Count]:
    if match := re.fullmatch(r"(\d+) images", text):
        yield Count(number=int(match[1]), unit="image", source="mmsegmentation", raw=text)
    parts = text.split("/")
    if len(parts) == len(("train", "val", "test")):
        for name, part in zip(("train", "val", "test"), parts, strict=True):
            if number := exact_number(part):
                yield Count(number=number, split=name, source="mmsegmentation", raw=text)


# --- surgical tools


def surgical(folder: Path) -> Iterator[Entry]:
    """`surgical_tool_datasets/datasets.csv`."""
    columns = ("task", "name", "url", "description", "images", "procedures", "paper_url")
    for row in read_csv(folder / "surgical_tool_datasets" / "datasets.csv", columns):
        yield parse_surgical(row)


def parse_surgical(row: Row) -> Entry:
    facts = Facts("surgical")
    if re.search(r"\b(?:laparoscop|endoscop)", row["description"], re.IGNORECASE):
        facts.state("modalities", ["Endoscopy"])
    facts.state("tasks", tasks_in(re.split(r" and ", row["task"])), row["task"])
    if re.search(r"\bannotat|\blabel", row["description"], re.IGNORECASE):
        facts.state("labelled", True)
    return Entry(
        source="surgical",
        ref=row["name"],
        name=plain_name(row["name"]),
        links=(
            *links("surgical", addresses(row["url"])),
            *links("surgical", addresses(row["paper_url"]), "paper"),
        ),
        facts=facts.claims,
        counts=tuple(_surgical_counts(row)),
    )


def _surgical_counts(row: Row) -> Iterator[Count]:
    text = row["images"]
    videos = re.fullmatch(r"(\d+) videos", text)
    labelled = re.match(r"(\d+) labelled images\b", text)
    if number := parse_number(text):
        yield Count(number=number, unit="image", source="surgical", raw=text)
    elif videos:
        yield Count(number=int(videos[1]), unit="video", source="surgical", raw=text)
    elif labelled:
        number = int(labelled[1])
        yield Count(number=number, unit="image", what="labelled", source="surgical", raw=text)
    if number := exact_number(row["procedures"]):
        yield Count(number=number, what="procedures", source="surgical", raw=row["procedures"])


# --- torch-em

_TORCH_MODALITIES = (
    (r"x-ray angiogram", "Angiography"),
    (r"\bcbct\b", "CBCT"),
    (r"\bpet/ct\b", "PET"),
    (r"\bct\b", "CT"),
    (r"\bmri\b", "MR"),
    (r"x-rays?\b(?! angio)|radiograph", "X-ray"),
    (r"\bmammograph", "Mammography"),
    (r"ultrasound|echocardiograph|\bus scans", "Ultrasound"),
    (r"endoscop|laparoscop|colonoscop", "Endoscopy"),
    (r"\bfundus\b", "Fundus photography"),
    (r"\boct\b", "OCT"),
    (r"\bdermoscop", "Dermoscopy"),
    (r"infrared", "Infrared"),
)
# Words that mean something else in these sentences.
_TORCH_SKIP = frozenset({"body", "cell", "cells", "multiple", "organs", "tissue"})


def torch_em(folder: Path) -> Iterator[Entry]:
    """`torch_em/datasets.json`; facts are read from one sentence a dataset."""
    keys = ("group", "id", "summary", "doi_or_paper", "license_mention")
    for item in _objects(folder / "torch_em" / "datasets.json", keys):
        yield parse_torch_em(item)


def parse_torch_em(item: Mapping[str, Any]) -> Entry:
    text = str(item["summary"]).split(". ")[0]
    plain = text.casefold()
    facts = Facts("torch_em")
    if item["group"] == "histopathology":
        facts.state("modalities", ["Histopathology"], "histopathology")
    else:
        found = [term for word, term in _TORCH_MODALITIES if re.search(word, plain)]
        facts.state("modalities", ordered("modality", found))
    facts.state("anatomies", find_in_text("anatomy", text, _TORCH_SKIP))
    facts.state("diseases", find_in_text("disease", text, _TORCH_SKIP))
    tasks = [task for task in ("segmentation", "classification") if task in plain]
    facts.state("tasks", find("task", tasks))
    if re.search(r"\bannotations?\b|\bmasks\b|\bsegmentations\b", plain):
        facts.state("labelled", True)
    licence = re.search(r"licensed under (\S+)", str(item["license_mention"]))
    facts.state_licence(licence[1].rstrip(".") if licence else "")
    return Entry(
        source="torch_em",
        ref=item["id"],
        name=torch_em_name(item),
        links=tuple(links("torch_em", [url for u in item["doi_or_paper"] for url in addresses(u)])),
        facts=facts.claims,
    )


def torch_em_name(item: Mapping[str, Any]) -> str:
    """How the sentence names the dataset, else its id."""
    words = r"(?:The )?((?:(?!contain|dataset)\S+ ){1,4}?)(?:dataset |datasets |data )?contain"
    match = re.match(words, str(item["summary"]))
    name = match[1].strip() if match else ""
    return plain_name(name) if name and name != "This" else str(item["id"])

"""All routes: pages by noun, the API below /api/v1/."""

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.contrib.sitemaps import views as sitemaps
from django.urls import include, path
from django.views.decorators.http import require_safe
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from portal.api import blueprints as api_blueprints
from portal.api import bundles as api_bundles
from portal.api import catalog as api_catalog
from portal.api import compare as api_compare
from portal.api import corrections as api_corrections
from portal.api import credentials as api_credentials
from portal.api import datasets as api_datasets
from portal.api import deposits as api_deposits
from portal.api import links as api_links
from portal.api import recipes as api_recipes
from portal.api import rules as api_rules
from portal.api import runs as api_runs
from portal.api import searches as api_searches
from portal.api import suggest as api_suggest
from portal.api import uploads as api_uploads
from portal.api import versions as api_versions
from portal.api import viewer as api_viewer
from portal.api import waiting as api_waiting
from portal.web import (
    account,
    acquisition,
    blueprint,
    bundles,
    compare,
    corrections,
    credentials,
    dataset,
    datasets,
    deposits,
    feed,
    harvestable,
    home,
    links,
    oai,
    operations,
    recipes,
    rules,
    runs,
    searches,
    statistics,
    uploads,
    versions,
    viewer,
    waiting,
)
from portal.web.wizard import views as wizard

api = [
    path("datasets/", api_datasets.DatasetList.as_view(), name="datasets"),
    path("datasets/compare/", api_compare.DatasetCompare.as_view(), name="dataset-compare"),
    path("datasets/<slug:slug>/", api_datasets.DatasetDetail.as_view(), name="dataset"),
    path(
        "datasets/<slug:slug>/croissant/",
        api_datasets.DatasetCroissant.as_view(),
        name="dataset-croissant",
    ),
    path(
        "datasets/<slug:slug>/acquisition/",
        api_datasets.DatasetAcquisition.as_view(),
        name="dataset-acquisition",
    ),
    path("datasets/<slug:slug>/terms/", api_datasets.DatasetTerms.as_view(), name="dataset-terms"),
    path(
        "datasets/<slug:slug>/citation/",
        api_datasets.DatasetCitation.as_view(),
        name="dataset-citation",
    ),
    path(
        "datasets/<slug:slug>/similar/",
        api_compare.DatasetSimilar.as_view(),
        name="dataset-similar",
    ),
    path(
        "datasets/<slug:slug>/partners/",
        api_blueprints.DatasetPartners.as_view(),
        name="dataset-partners",
    ),
    path(
        "datasets/<slug:slug>/corrections/",
        api_corrections.DatasetCorrections.as_view(),
        name="dataset-corrections",
    ),
    path(
        "datasets/<slug:slug>/record/",
        api_corrections.DatasetRecordFile.as_view(),
        name="dataset-record",
    ),
    path("searches/", api_searches.SearchList.as_view(), name="searches"),
    path("searches/<int:search_id>/", api_searches.SearchDetail.as_view(), name="search"),
    path("corrections/", api_corrections.CorrectionList.as_view(), name="corrections"),
    path(
        "corrections/<uuid:correction_id>/",
        api_corrections.CorrectionDetail.as_view(),
        name="correction",
    ),
    path(
        "corrections/<uuid:correction_id>/accept/",
        api_corrections.CorrectionAccept.as_view(),
        name="correction-accept",
    ),
    path(
        "corrections/<uuid:correction_id>/reject/",
        api_corrections.CorrectionReject.as_view(),
        name="correction-reject",
    ),
    path("blueprint/", api_blueprints.BlueprintView.as_view(), name="blueprint"),
    path("blueprint/goal/", api_blueprints.BlueprintGoal.as_view(), name="blueprint-goal"),
    path("blueprint/rules/", api_blueprints.BlueprintRules.as_view(), name="blueprint-rules"),
    path("catalog/concepts/", api_catalog.CatalogConcepts.as_view(), name="catalog-concepts"),
    path("catalog/export/", api_catalog.CatalogExport.as_view(), name="catalog-export"),
    path("catalog/statistics/", api_catalog.CatalogStatistics.as_view(), name="catalog-statistics"),
    path(
        "catalog/statistics/<str:figure>/",
        api_catalog.CatalogFigure.as_view(),
        name="catalog-figure",
    ),
    path("catalog/findings/", api_catalog.CatalogFindings.as_view(), name="catalog-findings"),
    path("catalog/links/", api_links.LinkList.as_view(), name="links"),
    path("datasets/<slug:slug>/links/", api_links.DatasetLinks.as_view(), name="dataset-links"),
    path("catalog/versions/", api_versions.VersionList.as_view(), name="versions"),
    path("catalog/versions/<int:number>/", api_versions.Version.as_view(), name="version"),
    path("catalog/harvests/", api_versions.HarvestList.as_view(), name="harvests"),
    path(
        "catalog/harvests/<int:harvest_id>/", api_versions.HarvestDetail.as_view(), name="harvest"
    ),
    path("catalog/changes/", api_versions.HarvestChanges.as_view(), name="harvest-changes"),
    path("catalog/changes/decide/", api_versions.HarvestDecide.as_view(), name="harvest-decide"),
    path("catalog/waiting/", api_waiting.WaitingList.as_view(), name="waiting"),
    path("suggest/", api_suggest.Suggest.as_view(), name="suggest"),
    path("rules/", api_rules.RulesView.as_view(), name="rules"),
    path("credentials/", api_credentials.CredentialList.as_view(), name="credentials"),
    path("credentials/<str:name>/", api_credentials.CredentialDetail.as_view(), name="credential"),
    path(
        "credentials/<str:name>/test/",
        api_credentials.CredentialTest.as_view(),
        name="credential-test",
    ),
    path("recipes/", api_recipes.RecipeList.as_view(), name="recipes"),
    path("recipes/draft/", api_recipes.RecipeDraft.as_view(), name="recipe-draft"),
    path("recipes/labels/", api_recipes.RecipeLabels.as_view(), name="recipe-labels"),
    path("recipes/validate/", api_recipes.RecipeValidate.as_view(), name="recipe-validate"),
    path("runs/", api_runs.RunList.as_view(), name="runs"),
    path("runs/<uuid:run_id>/", api_runs.RunDetail.as_view(), name="run"),
    path("runs/<uuid:run_id>/pause/", api_runs.RunPause.as_view(), name="run-pause"),
    path("runs/<uuid:run_id>/resume/", api_runs.RunResume.as_view(), name="run-resume"),
    path("runs/<uuid:run_id>/retry/", api_runs.RunRetry.as_view(), name="run-retry"),
    path("runs/<uuid:run_id>/cancel/", api_runs.RunCancel.as_view(), name="run-cancel"),
    path("runs/<uuid:run_id>/priority/", api_runs.RunPriority.as_view(), name="run-priority"),
    path("uploads/", api_uploads.UploadList.as_view(), name="uploads"),
    path("uploads/<uuid:upload_id>/", api_uploads.UploadDetail.as_view(), name="upload"),
    path("uploads/<uuid:upload_id>/keep/", api_uploads.UploadKeep.as_view(), name="upload-keep"),
    path(
        "uploads/<uuid:upload_id>/files/<int:number>/",
        api_uploads.UploadFile.as_view(),
        name="upload-file",
    ),
    path("runs/<uuid:run_id>/notices/", api_runs.RunNotices.as_view(), name="run-notices"),
    path(
        "runs/<uuid:run_id>/notices/<int:notice_id>/",
        api_runs.RunNoticeDetail.as_view(),
        name="run-notice",
    ),
    path("bundles/", api_bundles.BundleList.as_view(), name="bundles"),
    path("bundles/<slug:bundle_id>/", api_bundles.BundleDetail.as_view(), name="bundle"),
    path(
        "bundles/<slug:bundle_id>/baseline/",
        api_bundles.BundleBaseline.as_view(),
        name="bundle-baseline",
    ),
    path("bundles/<slug:bundle_id>/cases/", api_viewer.BundleCases.as_view(), name="bundle-cases"),
    path(
        "bundles/<slug:bundle_id>/cases/<slug:case_id>/",
        api_viewer.BundleCase.as_view(),
        name="bundle-case",
    ),
    path(
        "bundles/<slug:bundle_id>/cases/<slug:case_id>/slice.png",
        api_viewer.BundleSlice.as_view(),
        name="bundle-slice",
    ),
    path("bundles/<slug:bundle_id>/files/", api_bundles.BundleFiles.as_view(), name="bundle-files"),
    path(
        "bundles/<slug:bundle_id>/files/<path:path>",
        api_bundles.BundleFile.as_view(),
        name="bundle-file",
    ),
    path(
        "bundles/<slug:bundle_id>/download/",
        api_bundles.BundleDownload.as_view(),
        name="bundle-download",
    ),
    path(
        "bundles/<slug:bundle_id>/deposits/",
        api_deposits.BundleDeposits.as_view(),
        name="bundle-deposits",
    ),
    path(
        "bundles/<slug:bundle_id>/publish/",
        api_bundles.BundlePublish.as_view(),
        name="bundle-publish",
    ),
    path(
        "bundles/<slug:bundle_id>/withdraw/",
        api_bundles.BundleWithdraw.as_view(),
        name="bundle-withdraw",
    ),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path(
        "docs/",
        SpectacularSwaggerSplitView.as_view(url_name="api:schema", template_name="api_docs.html"),
        name="docs",
    ),
]

urlpatterns = [
    path("", home.home, name="home"),
    path("datasets/", datasets.search_page, name="datasets"),
    path("datasets/feed/", feed.index, name="dataset-feed"),
    path("datasets/<slug:slug>/", dataset.detail, name="dataset"),
    path("datasets/<slug:slug>/correct/", corrections.correct, name="dataset-correct"),
    path("corrections/", corrections.index, name="corrections"),
    path("corrections/<uuid:correction_id>/", corrections.detail, name="correction"),
    *(
        path(
            f"corrections/<uuid:correction_id>/{decision}/",
            corrections.decide,
            {"decision": decision},
            name=f"correction-{decision}",
        )
        for decision in corrections.DECISIONS
    ),
    path("robots.txt", harvestable.robots, name="robots"),
    path(
        "sitemap.xml",
        require_safe(sitemaps.index),
        {"sitemaps": harvestable.SITEMAPS},
        name="sitemap",
    ),
    path(
        "sitemap-<section>.xml",
        require_safe(sitemaps.sitemap),
        {"sitemaps": harvestable.SITEMAPS},
        name="django.contrib.sitemaps.views.sitemap",
    ),
    path("opensearch.xml", harvestable.opensearch, name="opensearch"),
    path("dcat/", harvestable.dcat, name="dcat"),
    path("oai/", oai.index, name="oai"),
    path("links/", links.index, name="links"),
    path("waiting/", waiting.index, name="waiting"),
    path("versions/", versions.index, name="versions"),
    path("versions/feed/", feed.versions, name="versions-feed"),
    path("versions/<int:number>/", versions.detail, name="version"),
    path("harvests/", versions.harvests, name="harvests"),
    path("harvests/waiting/", versions.queue, name="harvest-queue"),
    path("harvests/decide/", versions.decide, name="harvest-decide"),
    path("harvests/<int:harvest_id>/", versions.harvest, name="harvest"),
    path("compare/", compare.index, name="compare"),
    path("blueprint/", blueprint.index, name="blueprint"),
    path("blueprint/open/", wizard.opened, name="blueprint-open"),
    *(
        path(f"blueprint/{step}/", wizard.index, {"step": step}, name=f"blueprint-{step}")
        for step in wizard.PAGES
    ),
    path("statistics/", statistics.index, name="statistics"),
    path("rules/", rules.index, name="rules"),
    path("recipes/", recipes.index, name="recipes"),
    path("recipes/start/", recipes.start, name="recipe-start"),
    path("runs/", runs.index, name="runs"),
    path("runs/<uuid:run_id>/", runs.detail, name="run"),
    path("runs/<uuid:run_id>/progress/", runs.progress, name="run-progress"),
    *(
        path(f"runs/<uuid:run_id>/{action}/", runs.act, {"action": action}, name=f"run-{action}")
        for action in (*runs.ACTIONS, "priority")
    ),
    path("runs/<uuid:run_id>/notices/", runs.notices, name="run-notices"),
    path("bundles/", bundles.index, name="bundles"),
    path("bundles/<slug:bundle_id>/", bundles.detail, name="bundle"),
    path("bundles/<slug:bundle_id>/report/", bundles.report, name="bundle-report"),
    path("bundles/<slug:bundle_id>/baseline/", bundles.baseline, name="bundle-baseline"),
    path("bundles/<slug:bundle_id>/charts/<int:number>.svg", bundles.chart, name="bundle-chart"),
    path("bundles/<slug:bundle_id>/cases.png", bundles.cover, name="bundle-cover"),
    path("bundles/<slug:bundle_id>/cases/", viewer.index, name="bundle-cases"),
    path("bundles/<slug:bundle_id>/cases/<slug:case_id>/", viewer.detail, name="bundle-case"),
    path(
        "bundles/<slug:bundle_id>/cases/<slug:case_id>/slice.png",
        viewer.slice_png,
        name="bundle-slice",
    ),
    path(
        "login/",
        LoginView.as_view(
            template_name="login.html",
            extra_context=account.WAYS_IN,
            http_method_names=["get", "head", "options", *account.PASSWORD_METHODS],
        ),
        name="login",
    ),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("bundles/<slug:bundle_id>/publish/", bundles.publish, name="bundle-publish"),
    path("bundles/<slug:bundle_id>/withdraw/", bundles.withdraw, name="bundle-withdraw"),
    path("bundles/<slug:bundle_id>/remove/", bundles.remove, name="bundle-remove"),
    path("bundles/<slug:bundle_id>/deposit/", deposits.index, name="bundle-deposit"),
    path("uploads/", uploads.index, name="uploads"),
    path("uploads/<uuid:upload_id>/", uploads.detail, name="upload"),
    path("uploads/<uuid:upload_id>/send/", uploads.send, name="upload-send"),
    path("uploads/<uuid:upload_id>/description.yaml", uploads.description, name="upload-yaml"),
    *(
        path(
            f"uploads/<uuid:upload_id>/{action}/",
            uploads.act,
            {"action": action},
            name=f"upload-{action}",
        )
        for action in ("keep", "delete", "describe")
    ),
    path("account/", account.index, name="account"),
    path("account/searches/", searches.index, name="searches"),
    path("account/searches/save/", searches.keep, name="search-save"),
    *(
        path(
            f"account/searches/<int:search_id>/{action}/",
            searches.act,
            {"action": action},
            name=f"search-{action}",
        )
        for action in ("rename", "delete")
    ),
    path("account/credentials/", credentials.index, name="credentials"),
    path("account/credentials/<str:name>/test/", credentials.test, name="credential-test"),
    path("account/credentials/<str:name>/remove/", credentials.remove, name="credential-remove"),
    path("datasets/<slug:slug>/terms/", credentials.terms, name="dataset-terms"),
    path("datasets/<slug:slug>/files/", acquisition.index, name="dataset-files"),
    path("account/tokens/<int:token_id>/revoke/", account.revoke, name="token-revoke"),
    path("admin/", admin.site.urls),
    path("healthz", operations.healthz, name="healthz"),
    path("readyz", operations.readyz, name="readyz"),
    path("metrics", operations.metrics, name="metrics"),
    path("status/", operations.status, name="status"),
    path("api/v1/", include((api, "api"))),
]

if settings.OIDC_ISSUER:
    from portal.web import oidc

    at = {"provider_id": settings.OIDC_ISSUER}
    urlpatterns += [
        path("login/oidc/", oidc.begin, name="oidc-begin"),
        # The name under which allauth looks for the address that it tells the provider.
        path("login/oidc/callback/", oidc.callback, at, name="openid_connect_callback"),
    ]
if not settings.LOCAL_SIGN_IN:
    sign_in = RedirectView.as_view(pattern_name="login", query_string=True)
    urlpatterns.insert(0, path("admin/login/", sign_in))

handler400 = "portal.errors.bad_request"
handler404 = "portal.errors.not_found"
handler500 = "portal.errors.server_error"

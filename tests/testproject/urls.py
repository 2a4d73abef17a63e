from django.conf import settings
from django.contrib import admin
from django.http import HttpResponse
from django.urls import path

if settings.THEME == "unfold":
    # As docs/admin.md says.
    from unfold.admin import ModelAdmin

    from async_signals import admin as ledger_admin

    for model in list(admin.site._registry):
        if model._meta.app_label == "async_signals":
            mixin = getattr(ledger_admin, f"{model.__name__}AdminMixin")
            admin.site.unregister(model)
            admin.site.register(model, type(f"Unfold{model.__name__}", (mixin, ModelAdmin), {}))


def save_article(request):
    from tests.testapp.models import Article

    Article.objects.create(title=request.GET["title"])
    if "fail" in request.GET:
        raise RuntimeError("the request fails after the save")
    return HttpResponse("saved")


urlpatterns = [path("save/", save_article), path("admin/", admin.site.urls)]

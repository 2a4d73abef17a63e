from django.http import HttpResponse
from django.urls import path


def save_article(request):
    from tests.testapp.models import Article

    Article.objects.create(title=request.GET["title"])
    if "fail" in request.GET:
        raise RuntimeError("the request fails after the save")
    return HttpResponse("saved")


urlpatterns = [path("save/", save_article)]

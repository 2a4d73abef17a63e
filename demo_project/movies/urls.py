from django.urls import path

from . import views

app_name = "movies"
urlpatterns = [
    path("", views.search_page, name="search"),
    path("movies/<slug:imdb_id>/", views.movie_page, name="movie"),
]

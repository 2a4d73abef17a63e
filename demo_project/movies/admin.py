from django.contrib import admin

from .models import Genre, Movie, Outage, SearchTerm


@admin.register(SearchTerm)
class SearchTermAdmin(admin.ModelAdmin):
    list_display = ("term", "searches", "created_at", "last_searched_at")
    search_fields = ("term",)


@admin.register(Movie)
class MovieAdmin(admin.ModelAdmin):
    list_display = ("title", "year", "is_filled")
    list_filter = ("is_filled", "genres")
    search_fields = ("title",)
    filter_horizontal = ("genres",)


admin.site.register(Genre)
admin.site.register(Outage)

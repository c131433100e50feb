"""How pages lay differences out."""

from django import template

from projects.pages.diff_view import beside

register = template.Library()
register.filter("beside", beside)

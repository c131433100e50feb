"""Live updates of open pages.

To add a page with live parts:

1. Its template extends `page.html`. The root element has `data-live` (the name of the page),
   `data-version`, and `data-also`: the keys that it subscribes to; `hx-get` with its own URL and
   `hx-trigger="object-changed from:body"` reload it.
2. The keys are listed in `change_topics`. A new kind of object needs an entry in `TOPICS` there.
3. Nothing else is needed: the page reloads its root element when an object changes. Only the rows
   of applications (`application_rows`) are rendered here and sent (`page_updates`), once for all
   readers; `consumers` is the WebSocket `/live`.

docs/contributing.md has the whole recipe, with the view, the route and the tests.
"""

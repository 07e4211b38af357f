"""
The pages for browsers: static files, which a browser draws from the JSON of the listener that they come from.

Enters: which page, the path that is asked for, and the entity tag that the browser has. Leaves: a file, with a content
type and headers that let the page load nothing from elsewhere and run nothing but its own modules. There is no build
step: what lies here is what the browser gets. Who may come in: `control`, which shows the mesh, and `admin`, which
shows one sidecar.

`parts/` is what all pages are made of: `base.css` (colours, letters, tables), `dom.js` (by which alone anything gets
into the document), `client.js` (questions), `format.js`, `marks.js`, `parts.js` and `reasons.js`.

`mesh/` is the map: `app.js` (asks, keeps, shows), `model.js` (what hurts), `layout.js`, `paths.js` and `labels.js`
(where things stand); `map.js`, `tables.js`, `details.js`, `rollouts.js`, `timeline.js` and `frame.js` (what is drawn);
`hands.js` (wheel, drag and fingers).

`sidecar/` is one sidecar: `app.js` (asks, keeps, shows) and `asking.js` (how often), `rates.js` (what counters say),
`frame.js`, `routes.js`, `upstreams.js`, `requests.js`, `config.js` (what is drawn); `explain.js` (the form) and
`explanation.js` (its answer); `preview.js`.

A file's name is its address, `/page/NAME`: no page has two of one name.
"""

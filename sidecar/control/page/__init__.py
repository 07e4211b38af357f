"""
The page that shows the mesh: static files, which a browser draws from what `/v1/` says.

What enters: a path that a browser asks for. What leaves: a file of this folder, with a content type and headers that
let the page load nothing from elsewhere and run nothing but its own modules. Only the control plane's HTTP server comes
in, by `files.page_file`; there is no build step, and what lies here is what the browser gets.

The modules: `app.js` (asks, keeps, shows), `client.js` (questions), `model.js` (what hurts), `layout.js`, `paths.js`
and `labels.js` (where things stand); `map.js`, `tables.js`, `details.js`, `rollouts.js`, `timeline.js` and `frame.js`
(what is drawn); `hands.js` (wheel, drag and fingers); `parts.js`, `marks.js`, `format.js`; and `dom.js`, by which alone
anything gets into the document.
"""

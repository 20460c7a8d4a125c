"""The two pages of a sweep, as Jinja templates: plain HTML that needs no network and no script."""

STYLE = """\
:root {
  color-scheme: light dark;
  --ground: #fff; --raised: #f4f5f7; --text: #1c1f23; --faint: #565c64; --line: #d5d9de;
  --link: #0f57b5; --good: #00664b; --fair: #7a4d00; --bad: #a3350c; --note: #22589c; --none: #555;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #16181b; --raised: #212429; --text: #e8eaed; --faint: #b0b6be; --line: #3a3f46;
    --link: #86b8ff; --good: #5fd3ad; --fair: #f0bd5b; --bad: #ff9e75; --note: #8fc1ff;
    --none: #bbb;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem clamp(1rem, 3vw, 2.5rem) 4rem; max-width: 84rem;
  background: var(--ground); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
}
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0.25rem 0 0.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.75rem; }
p, li { max-width: 50rem; }
a { color: var(--link); }
a:focus-visible, button:focus-visible, summary:focus-visible, [tabindex]:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px;
}
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
code { font-size: 0.88em; overflow-wrap: anywhere; }
pre {
  background: var(--raised); border: 1px solid var(--line); border-radius: 0.4rem;
  padding: 0.7rem 0.9rem; overflow-x: auto; font-size: 0.85rem; line-height: 1.45;
}
pre.wrap { white-space: pre-wrap; }
pre code { font-size: inherit; overflow-wrap: normal; }
pre.wrap code { overflow-wrap: anywhere; }
.faint { color: var(--faint); font-size: 0.9rem; }
.kicker { color: var(--faint); margin: 0; overflow-wrap: anywhere; }
nav.way { display: flex; flex-wrap: wrap; gap: 0.25rem 1.5rem; margin-bottom: 1rem; }
.state { font-weight: 600; white-space: nowrap; }
.counts { display: flex; flex-wrap: wrap; gap: 0.4rem 1.75rem; font-size: 1.05rem; padding: 0;
  margin: 0.75rem 0; list-style: none; }
.finished, .reproduced { color: var(--good); }
.partly { color: var(--fair); }
.failed, .not-reproduced { color: var(--bad); }
.paper-erratum { color: var(--note); }
.not-finished, .not-confirmed { color: var(--none); }
.notice { border-left: 0.25rem solid var(--fair); background: var(--raised);
  padding: 0.6rem 0.9rem; }
figure { margin: 1.25rem 0 2.25rem; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 0.4rem;
  border: 1px solid var(--line); padding: 0.4rem; display: block; }
figcaption { margin-top: 0.6rem; max-width: 50rem; font-size: 0.95rem; }
figcaption p { margin: 0 0 0.3rem; }
.scroll { position: relative; overflow-x: auto; border: 1px solid var(--line);
  border-radius: 0.4rem; }
table { border-collapse: collapse; font-size: 0.9rem; min-width: 100%; }
caption { text-align: left; padding: 0.6rem 0.75rem; color: var(--faint); }
th, td { padding: 0.35rem 0.75rem; text-align: left; vertical-align: top;
  border-top: 1px solid var(--line); }
thead th { background: var(--raised); border-top: 0; vertical-align: bottom; white-space: nowrap; }
tbody th { font-weight: 400; }
tbody th code { font-weight: 600; }
table.sortable td, table.sortable th { white-space: nowrap; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.long, table.sortable td.long { min-width: 14rem; max-width: 28rem; white-space: normal;
  overflow-wrap: anywhere; }
tbody tr:hover { background: var(--raised); }
thead button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0;
  padding: 0; cursor: pointer; white-space: nowrap; }
thead button::after { content: "\\2195"; display: inline-block; width: 1.1em; text-align: right;
  color: var(--faint); }
th[aria-sort="ascending"] button::after { content: "\\2191"; color: inherit; }
th[aria-sort="descending"] button::after { content: "\\2193"; color: inherit; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1.25rem; margin: 0; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
details { margin: 0.75rem 0; }
summary { cursor: pointer; }
@media (max-width: 30rem) {
  body { padding-top: 1rem; }
  h1 { font-size: 1.35rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 0.4rem; }
}
"""

# Without this script the table stands in the sweep's order, and nothing looks as if it could be
# pressed. Each cell gives in data-sort what its column is sorted by; what is missing comes last.
SORT = """\
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.sort ?? "";
      const numbers = head.classList.contains("number");
      const order = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const found = numbers ? Number(x) - Number(y) || 0 : x.localeCompare(y);
        return up ? found : -found;
      };
      body.append(...[...body.rows].sort(order));
    });
  });
}
"""

# A formula stands in the page as readable text; where MathJax is there, it is set from its TeX.
# Without the packages that load further files, of which there are none, or make links.
MATH = """\
window.MathJax = {
  svg: { scale: 0.95 },
  tex: { packages: { "[-]": ["html", "require", "autoload"] } },
  options: { enableMenu: false, ignoreHtmlClass: "no-math", processHtmlClass: "math" },
  startup: {
    ready() {
      const places = [...document.querySelectorAll(".math[data-tex]")];
      const readable = places.map((place) => place.textContent);
      for (const place of places) place.textContent = "\\\\(" + place.dataset.tex + "\\\\)";
      MathJax.startup.defaultReady();
      MathJax.startup.promise.catch(() => {
        places.forEach((place, n) => { place.textContent = readable[n]; });
      });
    },
  },
};
"""

HEAD = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="made-of" content="{{ made_of }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ style }}</style>
{% if mathjax %}
<script>{{ math }}</script>
<script async src="{{ mathjax }}"></script>
{% endif %}
</head>
"""

INDEX = """\
<body class="no-math">
<main>
<p class="kicker">Sweep of <code>{{ notebook }}</code>, {{ profile }} profile</p>
<h1>{{ title }}</h1>
<ul class="counts">
{% for sign, count, word, css in progress %}
<li class="state {{ css }}"><span aria-hidden="true">{{ sign }}</span> {{ count }} {{ word }}</li>
{% endfor %}
</ul>
{% if not complete %}
<p>The same command goes on where it was; what is finished is not run again.</p>
{% endif %}
{% for notice in notices %}
<p class="notice">{{ notice }}</p>
{% endfor %}
{% if command %}
<p>Made by</p>
<pre class="wrap"><code>{{ command }}</code></pre>
{% endif %}

<h2>Result</h2>
{% if picture %}
<figure>
<img src="data:image/png;base64,{{ picture }}" alt="{{ drawn.alt }}" width="{{ width }}">
<figcaption><p>{{ drawn.caption }}</p>
<p class="faint">Also as <a href="figure.png">figure.png</a>.</p></figcaption>
</figure>
{% else %}
<p>{{ absent }}</p>
{% endif %}

<h2 id="runs">Runs</h2>
<p>The whole table: <a href="table.parquet">table.parquet</a>, <a href="table.csv">table.csv</a>.
{% if legend %}Verdicts, each with its number of claims: {{ legend }}.{% endif %}</p>
<div class="scroll" role="region" aria-labelledby="runs" tabindex="0">
<table class="sortable">
<caption>{{ rows | length }} points in the order of the sweep</caption>
<thead><tr>
{% for column in columns %}
<th scope="col"{% if column.number %} class="number"{% endif %}>
{%- if column.sign %}<span aria-hidden="true" title="{{ column.title }}">{{ column.sign }}</span>
<span class="unseen">{{ column.title }}</span>
{%- else %}{{ column.title }}{% endif %}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in rows %}
<tr>
{% for cell in row %}
{% if loop.first %}
<th scope="row" data-sort="{{ cell.sort }}"><a href="{{ cell.link }}">{{ cell.text }}</a></th>
{% else %}
<td class="{{ 'number ' if columns[loop.index0].number }}{{ cell.css }}"
 data-sort="{{ cell.sort }}">
{%- if cell.sign %}<span aria-hidden="true">{{ cell.sign }}</span> {% endif -%}
{%- if cell.link %}<a href="{{ cell.link }}">{{ cell.text }}
{%- if cell.of %}<span class="unseen"> {{ cell.of }}</span>{% endif %}</a>
{%- else %}{{ cell.text }}{% endif -%}
</td>
{% endif %}
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>

{% if constant %}
<h2>Same in all runs</h2>
<dl>
{% for name, value in constant %}
<dt><code>{{ name }}</code></dt><dd>{{ value }}</dd>
{% endfor %}
</dl>
{% endif %}
</main>
<script>{{ sort }}</script>
</body>
</html>
"""

POINT = """\
<body class="no-math">
<nav class="way" aria-label="Runs of the sweep">
<a href="../index.html">All runs</a>
{% if before %}<a href="{{ before }}.html" rel="prev">← Previous run</a>{% endif %}
{% if after %}<a href="{{ after }}.html" rel="next">Next run →</a>{% endif %}
</nav>
<main>
<p class="kicker">Run <code>{{ digest }}</code> of <code>{{ notebook }}</code>, {{ profile }}
profile</p>
<h1>{{ title }}</h1>
<p class="state {{ css }}"><span aria-hidden="true">{{ sign }}</span> {{ outcome }}</p>
{% if links %}
<p>{% for href, text in links %}<a href="{{ href }}">{{ text }}</a>{{ " · " if not loop.last }}
{%- endfor %}</p>
{% endif %}
{% if error %}
<h2>Error</h2>
<pre tabindex="0"><code>{{ error }}</code></pre>
{% if traceback %}
<details><summary>Where it happened</summary>
<pre tabindex="0"><code>{{ traceback }}</code></pre></details>
{% endif %}
{% endif %}

{% if verdicts %}
<h2 id="verdicts">Verdicts</h2>
<div class="scroll" role="region" aria-labelledby="verdicts" tabindex="0">
<table>
<caption>{{ verdicts | length }} claims and errata of the paper, in the order of the notebook
</caption>
<thead><tr><th scope="col">Verdict</th><th scope="col">Claim</th><th scope="col">Printed</th>
<th scope="col">Here</th><th scope="col" class="number">Tolerance</th></tr></thead>
<tbody>
{% for one in verdicts %}
<tr><td class="state {{ one.css }}"><span aria-hidden="true">{{ one.sign }}</span>
{{ one.verdict }}</td>
<th scope="row" class="long"><code>{{ one.id }}</code><br>
<span class="faint">{{ one.statement }}</span></th>
<td class="long">{{ one.paper }}</td><td class="long">{{ one.ours }}</td>
<td class="number">{{ one.tolerance }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
{% endif %}

{% if figures %}
<h2>Figures</h2>
{% for one in figures %}
<figure id="{{ one.id }}">
<img src="data:image/png;base64,{{ one.picture }}" alt="{{ one.alt }}" width="{{ one.width }}">
<figcaption>{{ one.caption }}</figcaption>
</figure>
{% endfor %}
{% endif %}

<h2>Parameters</h2>
<div class="scroll">
<table>
<caption>Those that vary in this sweep come first, in bold.</caption>
<thead><tr><th scope="col">Parameter</th><th scope="col">Value</th></tr></thead>
<tbody>
{% for name, value, varied in parameters %}
<tr><th scope="row"><code>{{ name }}</code></th>
<td class="long">{% if varied %}<strong>{{ value }}</strong>
{%- else %}{{ value }}{% endif %}</td></tr>
{% endfor %}
</tbody>
</table>
</div>

{% if made %}
<h2>How it was made</h2>
<dl>
{% for name, value in made %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}
</dl>
{% endif %}
</main>
</body>
</html>
"""

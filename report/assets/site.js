// Everything here only enhances: without it every number is still on the page. The address bar is
// the one place of state (`sort.<table>`, `find.<table>`, `show`), so a link or the back button
// brings a view back. Names enter the page as text, never as HTML.
"use strict";
(() => {
  const root = document.documentElement;
  const home = new URL("..", document.currentScript.src);
  const stored = (key, value) => {
    try {
      if (value === undefined) return localStorage.getItem(key);
      value ? localStorage.setItem(key, value) : localStorage.removeItem(key);
    } catch { /* storage is off: the choice lasts for this page */ }
    return value;
  };
  const theme = stored("theme");
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      key.startsWith("on") ? element.addEventListener(key.slice(2), value) : element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  };

  // -- state ---------------------------------------------------------------------------------
  let state = new URLSearchParams(location.search);
  const views = [];
  const show = () => views.forEach((view) => view());
  const set = (key, value, push = true) => {
    if ((state.get(key) ?? "") === value) return;
    value ? state.set(key, value) : state.delete(key);
    const query = state.toString();
    const address = location.pathname + (query ? `?${query}` : "") + location.hash;
    history[push ? "pushState" : "replaceState"](null, "", address);
    show();
  };
  addEventListener("popstate", () => {
    state = new URLSearchParams(location.search);
    show();
  });

  // -- numbers -------------------------------------------------------------------------------
  const number = (cell) => (cell?.dataset.v === undefined ? NaN : Number(cell.dataset.v));
  const signed = (value, digits, unit) => {
    const text = Math.abs(value).toFixed(digits);
    return (Number(text) === 0 ? "±" : value < 0 ? "−" : "+") + text + unit;
  };
  // What no test is about has a change and no verdict; scores of other documents not even that.
  const UNTESTED = { exact: "", untested: ", not tested", unpaired: "not paired" };
  const relation = (head, cell, other) => {
    const { change } = head.dataset;
    if (!change || !(number(cell) >= 0 && number(other) > 0)) return "";
    const told = change === "unpaired" ? "" : signed(100 * (number(cell) / number(other) - 1), 1, " %");
    return make("div", { class: "ratio" }, told + UNTESTED[change]);
  };

  // -- one table -----------------------------------------------------------------------------
  const label = (cell) => cell.querySelector("a, span, button")?.textContent.trim() || cell.textContent.trim();
  const enhance = (table) => {
    const id = table.id;
    const rows = [...table.querySelectorAll("tbody tr:not(.heading)")];
    const heading = (row) => row.parentElement.querySelector(".heading");
    const heads = [...table.tHead.rows[0].cells];
    const controls = make("div", { class: "controls" });
    const field = (text, control) => controls.append(make("label", {}, text, control));

    heads.forEach((head, column) => {
      const name = head.firstElementChild;
      const button = make("button", {
        type: "button", class: "sort",
        onclick: () => {
          const now = state.get(`sort.${id}`) ?? "";
          const key = head.dataset.key;
          const next = now === key ? `-${key}` : now === `-${key}` ? "" : key;
          set(`sort.${id}`, next);
        },
      });
      name.replaceWith(button);
      button.append(name);
      head.dataset.column = column;
    });

    let find, count;
    if (rows.length > 8) {
      find = make("input", {
        type: "search", autocomplete: "off",
        oninput: (event) => set(`find.${id}`, event.target.value, false),
      });
      count = make("output");
      field("Filter rows", find);
    }
    if (count) controls.append(count);
    if (controls.childElementCount) table.parentElement.before(controls);

    views.push(() => {
      const sort = state.get(`sort.${id}`) ?? "";
      const key = sort.replace(/^-/, "");
      const head = heads.find((each) => each.dataset.key === key);
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      let order = rows;
      if (head) {
        const sign = sort.startsWith("-") ? -1 : 1;
        head.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
        order = rows.toSorted((a, b) => compare(a, b, Number(head.dataset.column), sign));
      }
      order.forEach((row) => row.parentElement.append(row)); // each group is sorted by itself

      const wanted = (state.get(`find.${id}`) ?? "").toLowerCase();
      if (find && find.value.toLowerCase() !== wanted) find.value = wanted;
      let left = 0;
      for (const row of rows) {
        const text = row.textContent + (heading(row)?.textContent ?? "");
        row.hidden = wanted !== "" && !text.toLowerCase().includes(wanted);
        left += !row.hidden;
      }
      for (const each of table.querySelectorAll(".heading")) {
        each.hidden = !each.parentElement.querySelector("tr:not(.heading, [hidden])");
      }
      if (count) count.value = wanted ? `${left} of ${rows.length} rows` : `${rows.length} rows`;
    });
  };
  const compare = (a, b, column, sign) => {
    const [x, y] = [a.cells[column], b.cells[column]];
    const [m, n] = [number(x), number(y)];
    if (!Number.isNaN(m) || !Number.isNaN(n)) {
      return Number.isNaN(m) - Number.isNaN(n) || sign * (m - n); // what is unknown comes last
    }
    return sign * label(x).localeCompare(label(y), "en", { numeric: true });
  };

  // -- side by side: what is picked, in the order of the picks, stays in view at the bottom; on a
  // small screen a line, which opens: the list and its boxes stay in reach ----------------------
  const choose = (tables) => {
    const place = document.getElementById("side-by-side");
    const rows = new Map(tables.flatMap((table) => [...table.tBodies[0].rows].map((row) => [row.id, row])));
    const pairs = new Map([...document.querySelectorAll("tr[data-pair]")].map((row) => [row.dataset.pair, row]));
    const shown = () => (state.get("show") ?? "").split(",").filter((id) => rows.has(id));
    const boxes = new Map();
    for (const [id, row] of rows) {
      const box = make("input", {
        type: "checkbox", "aria-label": `Compare ${label(row.cells[0])}`,
        onchange: () => {
          const rest = shown().filter((each) => each !== id);
          set("show", (box.checked ? [...rest, id] : rest).join(","));
        },
      });
      row.cells[0].prepend(box, " ");
      boxes.set(id, box);
    }
    shown().forEach((id) => { rows.get(id).closest("details").open = true; });
    const title = make("summary");
    const panel = make("details", {}, title);
    panel.open = matchMedia("(min-width: 40.01rem)").matches;
    const clear = make("button", { type: "button", onclick: () => set("show", "") }, "Clear");
    views.push(() => {
      const ids = shown();
      for (const [id, box] of boxes) {
        box.checked = ids.includes(id);
        rows.get(id).classList.toggle("picked", box.checked);
      }
      for (const [ends, row] of pairs) {
        row.hidden = ids.length > 1 && !ends.split(" ").every((id) => ids.includes(id));
      }
      const picked = ids.map((id) => rows.get(id));
      const text = told(picked);
      title.textContent = text;
      panel.replaceChildren(title, picked.length > 1 ? sideBySide(picked, pairs) : "");
      place.replaceChildren(...(picked.length ? [clear, picked.length > 1 ? panel : make("p", {}, text)] : []));
    });
  };
  const named = (picked) => { // with the machine where they are of more than one
    const places = new Set(picked.map((row) => row.dataset.where));
    return picked.map((row) => label(row.cells[0]) + (places.size > 1 ? `, ${row.dataset.where}` : ""));
  };
  const told = (picked) => {
    const [first, ...others] = named(picked);
    return others.length ? `${others.join("; ")} against ${first}` : `${first} is picked: tick what to compare with it`;
  };
  const headsOf = (row) => [...row.closest("table").tHead.rows[0].cells];
  const cellOf = (row, key) => row?.cells[headsOf(row).findIndex((head) => head.dataset.key === key)];
  const sideBySide = (picked, pairs) => {
    const [first] = picked;
    const title = (row) => {
      const link = row.cells[0].querySelector("a").cloneNode(true);
      return make("th", { scope: "col", class: "num" }, link, make("span", { class: "sub" }, row.dataset.where ?? ""));
    };
    const heads = new Map(picked.flatMap((row) => headsOf(row).slice(1).map((head) => [head.dataset.key, head])));
    const unitOf = (head) => head.querySelector(".unit")?.textContent ?? "";
    const twice = (head) => [...heads.values()].filter((each) => each.textContent === head.textContent).length > 1;
    const names = named(picked);
    const line = ([key, head]) => {
      const cells = picked.map((row, index) => {
        const from = cellOf(row, key);
        const value = make("div", {}, ...(from?.cloneNode(true).childNodes ?? []));
        const cell = make("td", { class: "num", "data-label": names[index] }, value);
        if (row === first || !from) return cell;
        const test = cellOf(pairs.get(`${row.id} ${first.id}`), key);
        const other = cellOf(first, key);
        if (test && !Number.isNaN(number(test))) cell.append(make("div", { class: "ratio" }, ...test.cloneNode(true).childNodes));
        else if (other) cell.append(relation(head, from, other));
        return cell;
      });
      const unit = make("span", { class: "unit" }, unitOf(head) + (twice(head) ? `, ${head.title}` : ""));
      return make("tr", {}, make("th", { scope: "row" }, label(head), " ", unit), ...cells);
    };
    return make("div", { class: "frame", tabindex: "0", role: "region", "aria-label": "Side by side" },
      make("table", {}, make("thead", {}, make("tr", {}, make("td"), ...picked.map(title))), make("tbody", {}, ...[...heads].map(line))));
  };

  // -- charts: the library is fetched, from this site, only when somebody asks ------------------
  const load = (path) => new Promise((resolve, reject) => {
    const done = document.querySelector(`script[data-path="${CSS.escape(path)}"]`);
    if (done) return resolve();
    document.head.append(make("script", { src: new URL(path, home).href, "data-path": path, onload: resolve, onerror: reject }));
  });
  window.quantbenchCharts ??= {};
  const inked = (spec) => {
    const style = getComputedStyle(root);
    const ink = (text, [from, to]) => text.replaceAll(from, style.getPropertyValue(to).trim());
    return JSON.parse(Object.entries(window.quantbenchInks).reduce(ink, JSON.stringify(spec)));
  };
  const interactive = (figure) => {
    const name = figure.dataset.chart;
    const button = make("button", {
      type: "button",
      onclick: async () => {
        button.disabled = true;
        await load("assets/vega.js");
        await load(`charts/${name}.js`);
        const live = make("div", { class: "live" });
        figure.querySelectorAll("svg").forEach((svg) => svg.remove());
        figure.prepend(live);
        await window.vegaEmbed(live, inked(window.quantbenchCharts[name]), { actions: false, renderer: "svg" });
        button.remove();
      },
    }, "Explore: hover, zoom, click through");
    figure.append(button);
  };

  // -- what each variant carries, at the service level that the reader asks for -----------------
  const carrying = (table) => {
    const lines = [...table.querySelectorAll("tr[data-loads]")].map((row) => [row.cells[1], JSON.parse(row.dataset.loads)]);
    const limits = ["ttft", "tpot"];
    const level = (name) => Number(state.get(name) ?? table.dataset[name]);
    const sliders = limits.map((name) => {
      const most = Math.max(level(name), ...lines.flatMap(([, loads]) => loads.map((load) => load[name][1])));
      const slider = make("input", {
        type: "range", min: 0, max: Math.ceil(most), step: most > 200 ? 10 : 0.5,
        oninput: () => set(name, slider.value, false),
      });
      table.before(make("label", { class: "level" }, `${name.toUpperCase()} p90 at most, ms`, slider));
      return slider;
    });
    views.push(() => {
      limits.forEach((name, index) => {
        sliders[index].value = level(name);
        table.querySelector(`.${name}`).textContent = level(name);
      });
      const best = (loads, end) => loads
        .filter((load) => limits.every((name) => load[name][end] <= level(name)))
        .reduce((most, load) => (most && most.output >= load.output ? most : load), null);
      for (const [cell, loads] of lines) {
        const [may, sure] = [best(loads, 0), best(loads, 1)];
        const perhaps = may && may !== sure ? `; perhaps ${may.text}, ${may.load}` : "";
        cell.textContent = (sure ? `${sure.text} tokens/s, ${sure.load}` : "no measured load for sure") + perhaps;
      }
    });
  };

  // -- decisions: the style sheet shows what the address names; chips keep the purpose -----------
  const purposed = () => {
    const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const purpose = named?.matches(".take") ? named.classList[1] : "";
    document.querySelectorAll(".decision").forEach((panel) => {
      panel.querySelectorAll(".purposes a").forEach((link) => {
        const on = link.classList.contains(panel.querySelector(`.take.${purpose || "none"}`) ? purpose : panel.dataset.first);
        on ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
      });
      panel.querySelectorAll(".chips:not(.purposes) a").forEach((chip) => {
        chip.dataset.to ??= chip.hash;
        const own = `${chip.dataset.to}-${purpose}`;
        chip.hash = purpose && document.getElementById(own.slice(1)) ? own : chip.dataset.to;
      });
    });
  };
  addEventListener("hashchange", purposed);
  const copyable = (line) => {
    const text = line.querySelector("code").textContent;
    const button = make("button", {
      type: "button",
      onclick: async () => {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 2000);
      },
    }, "Copy");
    line.append(" ", button);
  };

  // -- search: every word must be in what is found; the texts are fetched when somebody asks ------
  const MOST_FOUND = 12;
  const searchable = (bar) => {
    const list = make("ul", { class: "found", hidden: "" });
    const seek = async () => {
      await load("assets/search.js");
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      const found = window.quantbenchSearch.filter(([text]) => words.every((word) => text.toLowerCase().includes(word)));
      const shown = found.slice(0, MOST_FOUND).map(([text, path]) => make("li", {}, make("a", { href: new URL(path, home).href }, text)));
      list.replaceChildren(...(shown.length ? shown : [make("li", {}, "Nothing is named so.")]));
      list.hidden = !words.length;
    };
    const box = make("input", {
      type: "search", placeholder: "Search", autocomplete: "off", "aria-label": "Search this site", oninput: seek,
      onkeydown: (event) => { if (event.key === "Escape") { box.value = ""; list.hidden = true; } },
    });
    bar.append(make("div", { class: "search", role: "search" }, box, list));
  };

  addEventListener("DOMContentLoaded", () => {
    const bar = document.querySelector(".site-head");
    if (bar) searchable(bar);
    const toggle = document.querySelector("button.theme");
    if (toggle) {
      const system = matchMedia("(prefers-color-scheme: dark)");
      const dark = () => root.dataset.theme === "dark" || (!root.dataset.theme && system.matches);
      const name = () => { toggle.textContent = dark() ? "Light" : "Dark"; };
      toggle.hidden = false;
      toggle.addEventListener("click", () => { root.dataset.theme = stored("theme", dark() ? "light" : "dark"); name(); });
      system.addEventListener("change", name);
      name();
    }
    document.querySelectorAll("table.data").forEach(enhance);
    document.querySelectorAll("table.carries").forEach(carrying);
    const choices = [...document.querySelectorAll("table[data-choose]")];
    if (choices.length) choose(choices);
    document.querySelectorAll("figure[data-chart]").forEach(interactive);
    if (navigator.clipboard) document.querySelectorAll(".command").forEach(copyable);
    purposed();
    show();
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target) target.scrollIntoView();
  });
})();

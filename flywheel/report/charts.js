"use strict";
// Draws the page's charts from their data, in the page's colours, and again when the colours change.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const two = (n) => String(n).padStart(2, "0");
  const formats = {
    share: (v) => `${(v * 100).toFixed(1)} %`,
    number: (v) => (Math.abs(v) >= 100 ? v.toLocaleString("en", { maximumFractionDigits: 0 }) : String(+v.toPrecision(3))),
    count: (v) => v.toLocaleString("en"),
    seconds: (v) => (v < 60 ? `${Math.round(v)}s` : `${Math.floor(Math.round(v) / 60)}m${two(Math.round(v) % 60)}s`),
  };
  const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;");

  async function library() {
    const packed = atob(document.getElementById("library").textContent);
    const bytes = Uint8Array.from(packed, (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script); // runs at once: the page's policy knows its hash
    if (!window.Plotly) throw new Error("the chart library did not start");
  }

  function theme() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    return { colour, series: [0, 1, 2, 3, 4, 5].map((i) => colour(`series-${i}`)) };
  }

  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "star"];

  function hover(chart, series, i) {
    const write = formats[chart.format];
    let text = `${escaped(series.name)}: <b>${write(series.values[i])}</b>`;
    if (series.low && series.low[i] !== null) text += ` [${write(series.low[i])}, ${write(series.high[i])}]`;
    return chart.rejected.length && chart.rejected[i] ? `${text} rejected` : text;
  }

  function lines(chart, look) {
    const traces = [];
    chart.series.forEach((series, n) => {
      const colour = chart.colours.length ? look.colour(chart.colours[n]) : look.series[n % look.series.length];
      const shown = chart.x.map((_, i) => i).filter((i) => series.values[i] !== null);
      const joined = shown.filter((i) => !(chart.rejected.length && chart.rejected[i]));
      const bounded = series.low && !series.quiet ? shown.filter((i) => series.low[i] !== null) : [];
      const opacity = series.quiet ? 0.5 : 1;
      if (chart.log_x && bounded.length > 1) {
        const back = [...bounded].reverse();
        traces.push({
          x: [...bounded, ...back].map((i) => chart.x[i]),
          y: [...bounded.map((i) => series.high[i]), ...back.map((i) => series.low[i])],
          fill: "toself", fillcolor: colour, opacity: 0.14, line: { width: 0 }, mode: "lines", hoverinfo: "skip",
          showlegend: false, legendgroup: String(n),
        });
      }
      traces.push({
        x: joined.map((i) => chart.x[i]), y: joined.map((i) => series.values[i]), mode: "lines", opacity,
        line: { color: colour, width: series.quiet ? 1.5 : 2.5, dash: series.quiet ? "dot" : "solid" }, hoverinfo: "skip",
        showlegend: false, legendgroup: String(n),
      });
      traces.push({
        x: shown.map((i) => chart.x[i]), y: shown.map((i) => series.values[i]), mode: "markers", name: escaped(series.name), opacity,
        legendgroup: String(n),
        marker: {
          color: colour, size: series.quiet ? 6 : 9, line: { width: 2, color: colour },
          symbol: shown.map((i) => SYMBOLS[n % SYMBOLS.length] + (chart.rejected.length && chart.rejected[i] ? "-open" : "")),
        },
        text: shown.map((i) => hover(chart, series, i)), hovertemplate: "%{text}<extra></extra>",
        error_y: bounded.length && !chart.log_x ? {
          type: "data", symmetric: false, color: colour, thickness: 1.5, width: 4,
          array: shown.map((i) => (series.high[i] ?? series.values[i]) - series.values[i]),
          arrayminus: shown.map((i) => series.values[i] - (series.low[i] ?? series.values[i])),
        } : undefined,
      });
    });
    return traces;
  }

  function bars(chart, look) {
    return chart.series.map((series, n) => ({
      type: "bar", name: escaped(series.name), x: chart.x.map((x) => escaped(x)), y: series.values,
      marker: { color: chart.colours.length ? look.colour(chart.colours[n]) : look.series[n % look.series.length] },
      text: chart.x.map((_, i) => hover(chart, series, i)), textposition: "none", hovertemplate: "%{text}<extra></extra>",
    }));
  }

  function layout(chart, look, width) {
    const ink = look.colour("quiet"), line = look.colour("line");
    const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, fixedrange: true, automargin: true };
    const numbers = chart.kind === "lines";
    const shapes = chart.limits.map((limit) => ({
      type: "line", xref: "paper", x0: 0, x1: 1, y0: limit.value, y1: limit.value,
      line: { color: look.colour("bad"), width: 1.5, dash: "dash" },
    }));
    const names = chart.limits.map((limit) => ({
      xref: "paper", x: 1, xanchor: "right", y: limit.value, yanchor: "bottom", text: escaped(limit.name), showarrow: false, bgcolor: look.colour("card"),
      font: { color: look.colour("bad"), size: 11 },
    }));
    const single = chart.series.length === 1;
    return {
      width, height: single ? 240 : 300, margin: { l: 44, r: 10, t: 10, b: 36 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: ink },
      showlegend: !single, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", xanchor: "left" },
      hovermode: "x unified", hoverlabel: { bgcolor: look.colour("card"), bordercolor: line, font: { color: look.colour("ink") } },
      dragmode: false, barmode: chart.kind === "stack" ? "stack" : "group", bargap: 0.3, shapes, annotations: names,
      xaxis: {
        ...axis, showgrid: false, zeroline: false, title: { text: escaped(chart.x_title), standoff: 8 },
        type: chart.log_x ? "log" : numbers ? "linear" : "category",
        ...(numbers ? { tickvals: ticks(chart), ticktext: ticks(chart).map(String) } : {}),
        ...(numbers && !chart.log_x ? { range: [chart.x[0] - 0.25, chart.x[chart.x.length - 1] + 0.25] } : {}),
      },
      yaxis: {
        ...axis, rangemode: chart.from_zero ? "tozero" : "normal",
        ...(chart.format === "share" ? { tickformat: ".0%" } : {}),
        ...(chart.format === "seconds" ? clock(chart) : {}),
      },
    };
  }

  function ticks(chart) {
    const step = Math.ceil(chart.x.length / 12); // a run may have a hundred generations
    return chart.log_x ? chart.x : chart.x.filter((_, i) => i % step === 0);
  }

  function clock(chart) {
    const heights = chart.x.map((_, i) => chart.series.reduce((sum, s) => sum + s.values[i], 0));
    const top = Math.max(...heights, 1);
    const step = [1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400].find((s) => top / s <= 6) ?? top / 5;
    const at = [];
    for (let t = 0; t <= top + step / 2; t += step) at.push(t);
    return { tickvals: at, ticktext: at.map((t) => (t >= 3600 ? `${+(t / 3600).toFixed(1)}h` : t >= 60 ? `${+(t / 60).toFixed(1)}m` : `${t}s`)) };
  }

  function draw(place) {
    const chart = charts[place.dataset.chart];
    const look = theme();
    const traces = chart.kind === "lines" ? lines(chart, look) : bars(chart, look);
    return Plotly.react(place, traces, layout(chart, look, place.clientWidth), { displayModeBar: false, showTips: false });
  }

  const places = [...document.querySelectorAll(".plot")];
  async function drawAll() {
    for (const place of places) {
      await draw(place);
      place.classList.add("drawn");
      await new Promise((resume) => setTimeout(resume)); // let the page breathe between two charts
    }
    document.documentElement.dataset.charts = "drawn";
  }

  let width = innerWidth, waiting = 0;
  library().then(drawAll).then(() => {
    dark.addEventListener("change", drawAll);
    addEventListener("resize", () => {
      if (innerWidth === width) return; // a phone's address bar changes the height alone
      width = innerWidth;
      clearTimeout(waiting);
      waiting = setTimeout(drawAll, 150);
    });
  }).catch((error) => {
    document.documentElement.dataset.charts = "failed";
    for (const place of places) {
      place.textContent = "This browser cannot draw the chart; its figures stand below.";
      place.classList.add("failed");
      place.parentElement.querySelector("details").open = true;
    }
    console.error(error);
  });
})();

// The dashboard as a page: its variables and its panels in Grafana's grid. `document.title` says when all of it is drawn.
import { type DataFrame, type GrafanaTheme2, type TimeRange, createTheme, dateTime } from "@grafana/data";
import { GlobalStyles, Icon, PanelChrome, ThemeContext } from "@grafana/ui";
import { createRoot } from "react-dom/client";

import { dashboard } from "./dashboard";
import { drawable, interpolate, interpolateQuery } from "./fields";
import { Body } from "./panels";
import { type Recorded, answers, labelValues } from "./prometheus";
import type { DataPanel } from "./schema";

// Grafana's grid, pixels: 24 columns; a row, and the gap between two. Narrower than that, a panel has a line to itself.
const COLUMNS = 24;
const ROW = 30;
const GAP = 8;
const PADDING = 16;
const NARROW = 768;

type Place = { x: number; y: number; width: number; height: number };

/** The places of all panels in a page of that width. */
function places(width: number): Place[] {
  const column = (width - (COLUMNS - 1) * GAP) / COLUMNS;
  let below = 0;
  return dashboard.panels.map(({ gridPos }) => {
    const { x, y, w, h } = width < NARROW ? { ...gridPos, x: 0, y: below, w: COLUMNS } : gridPos;
    below += h;
    return {
      x: x * (column + GAP),
      y: y * (ROW + GAP),
      width: w * column + (w - 1) * GAP,
      height: h * ROW + (h - 1) * GAP,
    };
  });
}

type Drawing = { place: Place; frames: DataFrame[] };

function Page(props: { drawings: Drawing[]; variables: [string, string][]; range: TimeRange; theme: GrafanaTheme2 }) {
  const { drawings, variables, range, theme } = props;
  const bottom = Math.max(...drawings.map(({ place }) => place.y + place.height));
  const box = { border: `1px solid ${theme.colors.border.medium}`, padding: "5px 8px", background: theme.colors.background.primary };
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ padding: PADDING, background: theme.colors.background.canvas }}>
        <div style={{ display: "flex", gap: GAP, marginBottom: PADDING, flexWrap: "wrap" }}>
          {variables.map(([label, value]) => (
            <div key={label} style={{ display: "flex" }}>
              <span style={box}>{label}</span>
              <span style={{ ...box, color: theme.colors.text.secondary }}>{value}</span>
            </div>
          ))}
        </div>
        <div style={{ position: "relative", height: bottom }}>
          {dashboard.panels.map((panel, index) => {
            const { place, frames } = drawings[index]!;
            return (
              <div key={panel.id} style={{ position: "absolute", left: place.x, top: place.y, width: place.width }}>
                {panel.type === "row" ? (
                  <div style={{ height: ROW, display: "flex", alignItems: "center", gap: GAP, fontWeight: 500 }}>
                    <Icon name="angle-down" /> {interpolate(panel.title)}
                  </div>
                ) : (
                  <PanelChrome width={place.width} height={place.height} title={interpolate(panel.title)} description={panel.description}>
                    {(width, height) => <Body {...{ panel: panel as DataPanel, frames, range, theme, width, height }} />}
                  </PanelChrome>
                )}
              </div>
            );
          })}
        </div>
      </div>
    </ThemeContext.Provider>
  );
}

async function main() {
  const asked = new URLSearchParams(location.search);
  const recorded: Recorded = JSON.parse(asked.get("recorded") ?? "null");
  const theme = createTheme({ colors: { mode: asked.get("theme") === "light" ? "light" : "dark" } });
  // Before anything is drawn on a canvas with it.
  for (const [weight, name] of [["400", "Regular"], ["500", "Medium"]]) {
    document.fonts.add(await new FontFace("Inter", `url(/fonts/inter/Inter-${name}.woff2)`, { weight }).load());
  }
  const [from, to] = [dateTime(recorded.from_s * 1000), dateTime(recorded.to_s * 1000)];
  const drawings = await Promise.all(
    places(window.innerWidth - 2 * PADDING).map(async (place, index): Promise<Drawing> => {
      const panel = dashboard.panels[index]!;
      if (panel.type === "row") {
        return { place, frames: [] };
      }
      const data = panel as DataPanel;
      return { place, frames: await drawable(data, await answers(recorded, data, place.width, interpolateQuery), theme) };
    }),
  );
  const variables = dashboard.templating.list.map(async ({ name, label, type, query }): Promise<[string, string]> => {
    const values = type === "query" ? await labelValues(recorded, interpolateQuery(String((query as { query: string }).query))) : [];
    return [label ?? name, type === "query" ? `All (${values.length})` : "Prometheus"];
  });
  createRoot(document.getElementById("root")!).render(
    <Page drawings={drawings} variables={await Promise.all(variables)} range={{ from, to, raw: { from, to } }} theme={theme} />,
  );
  document.title = "drawn";
}

main().catch((error: unknown) => {
  document.body.textContent = String(error);
  document.title = "failed";
});

// Asks Prometheus as Grafana's data source does and makes data frames of the answers.
import { type DataFrame, type Field, FieldType } from "@grafana/data";

import type { DataPanel } from "./schema";

type Labels = Record<string, string>;
type Value = [number, string];
type Series = { metric: Labels; value?: Value; values?: Value[] };

/** What was recorded: from when to when, and how often Prometheus scraped. */
export type Recorded = { url: string; from_s: number; to_s: number; scrape_s: number };

async function ask<T>(recorded: Recorded, path: string, parameters: Record<string, string>): Promise<T> {
  const response = await fetch(`${recorded.url}/api/v1/${path}?${new URLSearchParams(parameters)}`);
  const answer = await response.json();
  if (answer.status !== "success") {
    throw new Error(`${parameters.query ?? path}: ${answer.error}`);
  }
  return answer.data;
}

/** The values of a variable whose query is `label_values(SERIES, LABEL)`. */
export async function labelValues(recorded: Recorded, query: string): Promise<string[]> {
  const [, series, label] = /^label_values\((.*), (\w+)\)$/.exec(query) ?? [];
  if (series === undefined || label === undefined) {
    throw new Error(`not label_values(SERIES, LABEL): ${query}`);
  }
  const { from_s, to_s } = recorded;
  return ask(recorded, `label/${label}/values`, { "match[]": series, start: `${from_s}`, end: `${to_s}` });
}

/** Seconds between two points, in a panel of that width: no closer than scrapes, on a grid that does not move. */
function step(recorded: Recorded, width: number): number {
  const nice = [1, 2, 5, 10, 15, 20, 30, 60].filter((seconds) => seconds >= recorded.scrape_s);
  const wanted = (recorded.to_s - recorded.from_s) / width;
  return nice.find((seconds) => seconds >= wanted) ?? 60;
}

function seriesName(legend: string, labels: Labels, expression: string): string {
  if (legend !== "") {
    return legend.replace(/{{\s*(\w+)\s*}}/g, (_, label) => labels[label] ?? "");
  }
  const { __name__ = "", ...rest } = labels;
  const texts = Object.entries(rest).map(([label, value]) => `${label}="${value}"`);
  return texts.length > 0 ? `${__name__}{${texts.join(", ")}}` : __name__ || expression;
}

const times = (values: number[]): Field => ({ name: "Time", type: FieldType.time, config: {}, values });

/** A frame a series; `null` where Prometheus has nothing. */
function frames(refId: string, legend: string, query: string, grid: number[], answer: Series[]): DataFrame[] {
  return answer.map(({ metric, value: one, values = one ? [one] : [] }) => {
    const found = new Map(values.map(([seconds, text]) => [seconds * 1000, Number(text)]));
    const name = seriesName(legend, metric, query);
    const value: Field = {
      name: "Value",
      type: FieldType.number,
      labels: metric,
      config: { displayNameFromDS: name },
      values: grid.map((time) => found.get(time) ?? null),
    };
    return { refId, name, length: grid.length, fields: [times(grid), value] };
  });
}

/** One frame: a column a label, and the value's is named for its query when there are several. */
function table(refId: string, isOnly: boolean, answer: Series[]): DataFrame {
  const labels = [...new Set(answer.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const columns: Field[] = labels.map((name) => ({
    name,
    type: FieldType.string,
    config: { filterable: true },
    values: answer.map(({ metric }) => metric[name] ?? ""),
  }));
  const value: Field = {
    name: isOnly ? "Value" : `Value #${refId}`,
    type: FieldType.number,
    config: {},
    values: answer.map(({ value }) => Number(value?.[1])),
  };
  const time = times(answer.map(({ value }) => Number(value?.[0]) * 1000));
  return { refId, length: answer.length, fields: [time, ...columns, value] };
}

/** The answers to all queries of a panel. */
export async function answers(
  recorded: Recorded,
  panel: DataPanel,
  width: number,
  interpolate: (text: string) => string,
): Promise<DataFrame[]> {
  const step_s = step(recorded, width);
  const rate_s = Math.max(step_s + recorded.scrape_s, 4 * recorded.scrape_s);
  const start = Math.ceil(recorded.from_s / step_s) * step_s;
  const grid: number[] = [];
  for (let seconds = start; seconds <= recorded.to_s; seconds += step_s) {
    grid.push(seconds * 1000);
  }
  const all = panel.targets.map(async ({ refId, expr, legendFormat, instant, format }) => {
    const query = interpolate(expr.replaceAll("$__rate_interval", `${rate_s}s`));
    const times: Record<string, string> = instant
      ? { time: `${recorded.to_s}` }
      : { start: `${start}`, end: `${recorded.to_s}`, step: `${step_s}` };
    const path = instant ? "query" : "query_range";
    const { result } = await ask<{ result: Series[] }>(recorded, path, { query, ...times });
    return format === "table"
      ? [table(refId, panel.targets.length === 1, result)]
      : frames(refId, legendFormat, query, instant ? [recorded.to_s * 1000] : grid, result);
  });
  return (await Promise.all(all)).flat();
}

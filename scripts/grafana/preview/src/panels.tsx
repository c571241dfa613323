// The three kinds of panels, drawn with the components that Grafana's plugins of these names draw with.
import {
  type DataFrame,
  type FieldDisplay,
  type GrafanaTheme2,
  type TimeRange,
  VizOrientation,
  getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
} from "@grafana/data";
import { type VizLegendOptions, LegendDisplayMode } from "@grafana/schema";
import {
  BigValue,
  BigValueColorMode,
  BigValueGraphMode,
  BigValueJustifyMode,
  BigValueTextMode,
  TimeSeries,
  VizRepeater,
} from "@grafana/ui";
import { TableNG } from "@grafana/ui/unstable";

import { interpolate } from "./fields";
import type { DataPanel, StatPanel, TablePanel, TimeSeriesPanel } from "./schema";

type Size = { width: number; height: number };
type Drawn<Panel> = Size & { panel: Panel; frames: DataFrame[]; range: TimeRange; theme: GrafanaTheme2 };

export function Body(drawn: Drawn<DataPanel>) {
  const { panel, frames } = drawn;
  if (frames.every(({ length }) => length === 0)) {
    return <div style={{ height: drawn.height, display: "grid", placeContent: "center" }}>{panel.fieldConfig.defaults.noValue ?? "No data"}</div>;
  }
  switch (panel.type) {
    case "stat":
      return <Stat {...drawn} panel={panel} />;
    case "timeseries":
      return <Lines {...drawn} panel={panel} />;
    case "table":
      return <Table {...drawn} panel={panel} />;
  }
}

function Stat({ panel, frames, theme, ...size }: Drawn<StatPanel>) {
  const { options, fieldConfig } = panel;
  const values = () =>
    getFieldDisplayValues({
      data: frames,
      fieldConfig: fieldConfig as never,
      reduceOptions: { calcs: ["lastNotNull"], ...options.reduceOptions },
      replaceVariables: interpolate,
      sparkline: options.graphMode !== "none",
      theme,
    });
  return (
    <VizRepeater<FieldDisplay, ReturnType<typeof getDisplayValueAlignmentFactors>>
      {...size}
      getValues={values}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      source={frames}
      renderCounter={0}
      orientation={(options.orientation as VizOrientation | undefined) ?? VizOrientation.Auto}
      itemSpacing={3}
      autoGrid
      renderValue={({ value, count, alignmentFactors, width, height }) => (
        <BigValue
          value={value.display}
          sparkline={value.sparkline}
          count={count}
          alignmentFactors={alignmentFactors}
          width={width}
          height={height}
          theme={theme}
          colorMode={(options.colorMode ?? "value") as BigValueColorMode}
          graphMode={(options.graphMode ?? "area") as BigValueGraphMode}
          justifyMode={(options.justifyMode ?? "auto") as BigValueJustifyMode}
          textMode={(options.textMode ?? "auto") as BigValueTextMode}
          text={options.text}
          disableWideLayout={options.wideLayout === false}
        />
      )}
    />
  );
}

const LEGEND: VizLegendOptions = {
  showLegend: true,
  displayMode: LegendDisplayMode.List,
  placement: "bottom",
  calcs: [],
};

function Lines({ panel, frames, range, ...size }: Drawn<TimeSeriesPanel>) {
  const legend = { ...LEGEND, ...(panel.options.legend as Partial<VizLegendOptions>) };
  return <TimeSeries {...size} frames={frames} timeRange={range} timeZone="browser" legend={legend} />;
}

function Table({ panel, frames, ...size }: Drawn<TablePanel>) {
  const frame = frames[panel.options.frameIndex ?? 0];
  if (frame === undefined) {
    return null;
  }
  const { sortBy, showHeader, cellHeight } = panel.options;
  return (
    <TableNG {...size} data={frame} noHeader={showHeader === false} sortBy={sortBy} cellHeight={cellHeight as never} />
  );
}

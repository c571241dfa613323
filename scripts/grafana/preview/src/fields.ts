// What Grafana does to answers before a panel draws them: transformations, then units, colours and the other settings of
// fields, with the defaults of the panel's kind under those of the dashboard.
import {
  type DataFrame,
  type FieldConfigPropertyItem,
  type FieldConfigSource,
  type GrafanaTheme2,
  FieldColorModeId,
  FieldConfigOptionsRegistry,
  ThresholdsMode,
  applyFieldOverrides,
  cacheFieldDisplayNames,
  standardTransformers,
  standardTransformersRegistry,
  transformDataFrame,
} from "@grafana/data";
import { firstValueFrom } from "rxjs";

import type { DataPanel } from "./schema";

/** Variables as they show in titles: all directors, all services. */
export const interpolate = (text: string) => text.replaceAll(/\$(instance|service)\b/g, "All");
/** Variables as they go into queries. */
export const interpolateQuery = (text: string) => text.replaceAll(/\$(instance|service)\b/g, ".*");

standardTransformersRegistry.setInit(() =>
  [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer].map(
    (transformation) =>
      ({
        id: transformation.id,
        name: transformation.name,
        transformation: () => Promise.resolve(transformation),
        editor: () => null,
        imageDark: "",
        imageLight: "",
      }) as never,
  ),
);

const STANDARD = ["unit", "min", "max", "decimals", "displayName", "color", "noValue", "links", "mappings", "thresholds"];
const CUSTOM = [
  ...["drawStyle", "lineInterpolation", "lineWidth", "lineStyle", "fillOpacity", "gradientMode", "fillBelowTo", "spanNulls"],
  ...["showPoints", "pointSize", "stacking", "transform", "hideFrom", "thresholdsStyle", "scaleDistribution"],
  ...["axisPlacement", "axisLabel", "axisWidth", "axisSoftMin", "axisSoftMax", "axisGridShow", "axisCenteredZero"],
  ...["align", "cellOptions", "width", "minWidth", "filterable", "inspect"],
];

const setting = (path: string, isCustom: boolean): FieldConfigPropertyItem => ({
  id: isCustom ? `custom.${path}` : path,
  path,
  name: path,
  isCustom,
  process: (value) => value,
  shouldApply: () => true,
  editor: () => null,
  override: () => null,
});

const REGISTRY = new FieldConfigOptionsRegistry(() => [
  ...STANDARD.map((path) => setting(path, false)),
  ...CUSTOM.map((path) => setting(path, true)),
]);

// What a panel has that says nothing of them: green, and red from 80 on.
const THRESHOLDS = {
  mode: ThresholdsMode.Absolute,
  steps: [
    { value: -Infinity, color: "green" },
    { value: 80, color: "red" },
  ],
};
const DEFAULTS = {
  stat: { color: { mode: FieldColorModeId.Thresholds }, thresholds: THRESHOLDS },
  table: { color: { mode: FieldColorModeId.Thresholds }, thresholds: THRESHOLDS },
  timeseries: { color: { mode: FieldColorModeId.PaletteClassic }, thresholds: THRESHOLDS },
};
const CUSTOM_DEFAULTS = {
  stat: {},
  table: { align: "auto", cellOptions: { type: "auto" }, inspect: false },
  timeseries: {
    drawStyle: "line",
    lineInterpolation: "linear",
    lineWidth: 1,
    fillOpacity: 0,
    gradientMode: "none",
    showPoints: "auto",
    pointSize: 5,
    spanNulls: false,
    axisPlacement: "auto",
    stacking: { mode: "none", group: "A" },
    scaleDistribution: { type: "linear" },
    thresholdsStyle: { mode: "off" },
  },
};

export async function drawable(panel: DataPanel, answers: DataFrame[], theme: GrafanaTheme2): Promise<DataFrame[]> {
  const { defaults, overrides } = panel.fieldConfig;
  const steps = defaults.thresholds?.steps.map((step) => ({ ...step, value: step.value ?? -Infinity }));
  const fieldConfig = {
    defaults: {
      ...DEFAULTS[panel.type],
      ...defaults,
      ...(steps ? { thresholds: { ...defaults.thresholds, steps } } : {}),
      custom: { ...CUSTOM_DEFAULTS[panel.type], ...defaults.custom },
    },
    overrides,
  } as FieldConfigSource;
  const transformations = (panel.transformations ?? []) as never[];
  const transformed = await firstValueFrom(transformDataFrame(transformations, answers, { interpolate }));
  const frames = applyFieldOverrides({
    data: transformed,
    fieldConfig,
    fieldConfigRegistry: REGISTRY,
    replaceVariables: interpolate,
    theme,
    timeZone: "browser",
  });
  cacheFieldDisplayNames(frames);
  return frames;
}

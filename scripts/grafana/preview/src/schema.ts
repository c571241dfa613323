// What a Grafana that imports the dashboard expects, panel by panel; `tsc` holds pollux.json against it.
import type * as schema from "@grafana/schema";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as table from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type * as timeseries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

// As it is written in JSON: enumerations are their texts, and what a panel has a default for may be left out.
type Written<T> = T extends string
  ? `${T}`
  : T extends number | boolean | null | undefined
    ? T
    : T extends (infer U)[]
      ? Written<U>[]
      : T extends object
        ? { [K in keyof T]: Written<T[K]> }
        : T;

interface Query extends schema.DataQuery {
  expr: string;
  legendFormat: string;
  editorMode: "code";
  format?: "table" | "time_series";
  instant?: boolean;
  range?: boolean;
}

type PanelOf<Type extends string, Options, Custom> = Written<
  Omit<schema.Panel, "type" | "options" | "fieldConfig" | "targets">
> & {
  type: Type;
  title: string;
  description: string;
  gridPos: schema.GridPos;
  options: Partial<Written<Options>>;
  fieldConfig: {
    defaults: Omit<Written<schema.FieldConfig>, "custom"> & { custom: Partial<Written<Custom>> };
    overrides: Written<schema.FieldConfigSource["overrides"]>;
  };
  targets: Written<Query>[];
};

export type StatPanel = PanelOf<"stat", stat.Options, Record<string, never>>;
export type TimeSeriesPanel = PanelOf<"timeseries", timeseries.Options, timeseries.FieldConfig>;
export type TablePanel = PanelOf<"table", table.Options, schema.TableFieldOptions>;
export type DataPanel = StatPanel | TimeSeriesPanel | TablePanel;
export type RowPanel = Written<schema.RowPanel> & { title: string; gridPos: schema.GridPos };

// Grafana writes `definition` too, and `{}` for the data source it is to choose itself.
type Variable = Omit<Written<schema.VariableModel>, "current"> & {
  definition?: string;
  current: Partial<Written<schema.VariableOption>>;
};

export type Dashboard = Written<Omit<schema.Dashboard, "panels" | "templating">> & {
  panels: (DataPanel | RowPanel)[];
  templating: { list: Variable[] };
};

// What a dashboard of ours may be, in Grafana's own words. `test_dashboards.py` puts a dashboard behind this, as a
// literal, so that the compiler also refuses a property that Grafana does not know.
import type {Dashboard, DataQuery, FieldConfigSource, Panel, RowPanel, VariableModel} from '@grafana/schema';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// JSON has the values of enums, not their names.
type Plain<T> = T extends string
  ? `${T}`
  : T extends (infer Item)[]
    ? Plain<Item>[]
    : T extends object
      ? {[Key in keyof T]: Plain<T[Key]>}
      : T;

// The package has no type for what Prometheus' data source adds.
interface PromQuery extends DataQuery {
  expr: string;
  editorMode: 'code';
  legendFormat?: string;
  format?: 'time_series' | 'table';
  instant?: boolean;
  range?: boolean;
}

type PanelOf<Type extends string, Options, Field> = Plain<
  Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'> & {
    options: Options;
    fieldConfig: {
      defaults: Omit<FieldConfigSource['defaults'], 'custom'> & {custom?: Field};
      overrides: FieldConfigSource['overrides'];
    };
    targets: PromQuery[];
  }
> & {type: Type};

export type BotfarmDashboard = Plain<Omit<Dashboard, 'panels' | 'templating'>> & {
  panels: (
    | PanelOf<'stat', stat.Options, never>
    | PanelOf<'table', table.Options, table.FieldConfig>
    | PanelOf<'timeseries', timeseries.Options, timeseries.FieldConfig>
    | (Plain<Omit<RowPanel, 'type'>> & {type: 'row'})
  )[];
  templating: {list: Plain<VariableModel>[]};
};

/**
 * Counters, gauges and histograms in Prometheus' text format (version 0.0.4). No metric carries a person, a statement
 * or a value: label values are few and come from the program.
 */
type Labels = Readonly<Record<string, string>>;

export interface Counter {
  increment(labels?: Labels, by?: number): void;
}
export interface Gauge {
  set(value: number, labels?: Labels): void;
}
export interface Histogram {
  /** In seconds, as Prometheus counts time. */
  observe(seconds: number, labels?: Labels): void;
}

export interface Metrics {
  counter(name: string, help: string): Counter;
  gauge(name: string, help: string): Gauge;
  /** A gauge that is read when it is asked for. */
  observeGauge(name: string, help: string, read: () => number): void;
  histogram(name: string, help: string): Histogram;
  render(): string;
}

/** Series past this many in one metric are dropped: a label that grows must not take the memory. */
const seriesMax = 1_000;
const bucketSeconds = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

interface HistogramSeries {
  readonly counts: number[];
  sum: number;
  count: number;
}

const escapeLabel = (text: string) => text.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n");

function spellLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return pairs.sort().join(",");
}

const sample = (name: string, labels: string, value: number) =>
  `${name}${labels === "" ? "" : `{${labels}}`} ${value}\n`;

export function createMetrics(): Metrics {
  const families = new Map<string, () => string>();

  function register(name: string, type: string, help: string, samples: () => string): void {
    if (!/^[a-z][a-z0-9_]*$/.test(name)) throw new TypeError(`"${name}" is not a metric's name`);
    if (families.has(name)) throw new TypeError(`The metric ${name} is registered twice`);
    families.set(name, () => `# HELP ${name} ${help.replace(/\n/g, " ")}\n# TYPE ${name} ${type}\n${samples()}`);
  }

  function simple(name: string, type: string, help: string): Map<string, number> {
    const series = new Map<string, number>();
    register(name, type, help, () => [...series].map(([labels, value]) => sample(name, labels, value)).join(""));
    return series;
  }

  const admits = (series: Map<string, unknown>, key: string) => series.has(key) || series.size < seriesMax;

  return {
    counter(name, help) {
      const series = simple(name, "counter", help);
      return {
        increment(labels = {}, by = 1) {
          const key = spellLabels(labels);
          if (admits(series, key)) series.set(key, (series.get(key) ?? 0) + by);
        },
      };
    },
    gauge(name, help) {
      const series = simple(name, "gauge", help);
      return {
        set(value, labels = {}) {
          const key = spellLabels(labels);
          if (admits(series, key)) series.set(key, value);
        },
      };
    },
    observeGauge(name, help, read) {
      register(name, "gauge", help, () => sample(name, "", read()));
    },
    histogram(name, help) {
      const series = new Map<string, HistogramSeries>();
      register(name, "histogram", help, () =>
        [...series].map(([labels, one]) => renderHistogram(name, labels, one)).join(""),
      );
      return {
        observe(seconds, labels = {}) {
          const key = spellLabels(labels);
          if (!admits(series, key)) return;
          const one = series.get(key) ?? { counts: bucketSeconds.map(() => 0), sum: 0, count: 0 };
          series.set(key, one);
          const bucket = bucketSeconds.findIndex((bound) => seconds <= bound);
          if (bucket !== -1) one.counts[bucket] = (one.counts[bucket] ?? 0) + 1;
          one.sum += seconds;
          one.count += 1;
        },
      };
    },
    render: () => [...families.values()].map((family) => family()).join(""),
  };
}

function renderHistogram(name: string, labels: string, series: HistogramSeries): string {
  const prefix = labels === "" ? "" : `${labels},`;
  let total = 0;
  let text = "";
  bucketSeconds.forEach((bound, index) => {
    total += series.counts[index] ?? 0;
    text += sample(`${name}_bucket`, `${prefix}le="${bound}"`, total);
  });
  text += sample(`${name}_bucket`, `${prefix}le="+Inf"`, series.count);
  return text + sample(`${name}_sum`, labels, series.sum) + sample(`${name}_count`, labels, series.count);
}

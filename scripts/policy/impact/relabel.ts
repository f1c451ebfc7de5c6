/**
 * A recorded analysis holds the labels of the revision that it was analysed under. Another revision's data may label
 * other columns: what follows from names is recomputed here; what flows through views, children and generated columns
 * only where a catalog is given. Where the recording cannot tell, the answer says so: `likely` assumes that nothing
 * flows to or from what changed, `others` are the extremes.
 */
import { canonicalJson, labelsByTarget, type PolicyData } from "../../../gateway/policy/data.ts";
import type { CommandAnalysis } from "../../../gateway/policy/input.ts";
import type { CatalogLabels } from "./catalog-labels.ts";

/** Labels by schema.table.column, of one target in one revision. */
export interface TargetLabels {
  /** Equal labels have equal keys. */
  readonly key: string;
  readonly byName: ReadonlyMap<string, readonly string[]>;
  /** Names of columns by label. */
  readonly sources: ReadonlyMap<string, ReadonlySet<string>>;
}

export function targetLabels(data: PolicyData, target: string): TargetLabels {
  const byName = labelsByTarget(data).get(target) ?? new Map<string, string[]>();
  const sources = new Map<string, Set<string>>();
  for (const [name, labels] of byName) {
    for (const label of labels) sources.set(label, (sources.get(label) ?? new Set()).add(name));
  }
  const key = canonicalJson(Object.fromEntries([...byName].map(([name, labels]) => [name, labels.toSorted()])));
  return { key, byName, sources };
}

export interface Relabelled {
  readonly likely: CommandAnalysis;
  /** Empty where the labels are certain. */
  readonly others: readonly CommandAnalysis[];
}

/** What became of one label. */
interface LabelChange {
  readonly label: string;
  /** Columns that the judging revision gives it. */
  readonly columns: ReadonlySet<string>;
  /** schema.table of these. */
  readonly relations: ReadonlySet<string>;
  /** Of the same columns then: whatever flowed, flows. */
  readonly same: boolean;
  readonly gained: boolean;
  readonly lost: boolean;
}

const none: ReadonlySet<string> = new Set();
const changesOf = new WeakMap<TargetLabels, WeakMap<TargetLabels, readonly LabelChange[]>>();
const unknownLabels: TargetLabels = { key: "", byName: new Map(), sources: new Map() };

function labelChanges(then: TargetLabels, now: TargetLabels): readonly LabelChange[] {
  let byNow = changesOf.get(then);
  if (byNow === undefined) {
    byNow = new WeakMap();
    changesOf.set(then, byNow);
  }
  const known = byNow.get(now);
  if (known !== undefined) return known;
  const changes = [...new Set([...then.sources.keys(), ...now.sources.keys()])].sort().map((label) => {
    const before = then.sources.get(label) ?? none;
    const columns = now.sources.get(label) ?? none;
    const gained = [...columns].some((name) => !before.has(name));
    const lost = [...before].some((name) => !columns.has(name));
    const relations = new Set([...columns].map((name) => name.slice(0, name.lastIndexOf("."))));
    return { label, columns, relations, same: then !== unknownLabels && !gained && !lost, gained, lost };
  });
  byNow.set(now, changes);
  return changes;
}

/** What is labelled: a column, or a relation by any of its columns. */
interface Subject {
  readonly schema: string;
  readonly relation: string;
  readonly recorded: readonly string[];
  isNamed(change: LabelChange): boolean;
  readonly inCatalog: readonly string[] | undefined;
}

interface Answer {
  readonly likely: boolean;
  readonly least: boolean;
  readonly most: boolean;
}
const yes: Answer = { likely: true, least: true, most: true };
const no: Answer = { likely: false, least: false, most: false };
const maybe: Answer = { likely: false, least: false, most: true };
const probably: Answer = { likely: true, least: false, most: true };

const statistics = new Set(["pg_statistic", "pg_stats", "pg_statistic_ext_data", "pg_stats_ext", "pg_stats_ext_exprs"]);

function hasLabel(change: LabelChange, subject: Subject, thenIsKnown: boolean): Answer {
  const carried = subject.recorded.includes(change.label);
  if (change.same) return carried ? yes : no;
  const isSystem = subject.schema === "pg_catalog" || subject.schema === "information_schema";
  // Samples of every column's values.
  if (isSystem && statistics.has(subject.relation)) return change.columns.size > 0 ? yes : no;
  if (subject.inCatalog !== undefined) return subject.inCatalog.includes(change.label) ? yes : no;
  if (subject.isNamed(change)) return yes;
  if (change.columns.size === 0 || isSystem) return no;
  // The recording says that it had the label and not why: by its own name then, or by a flow that may still be there.
  if (!thenIsKnown) return carried ? probably : no;
  if (carried && !change.lost) return yes;
  return !carried && !change.gained ? no : maybe;
}

/**
 * @param then labels of the revision that the analysis was recorded under, undefined where its data is not at hand
 * @param now labels of the revision that judges
 */
export function relabel(
  analysis: CommandAnalysis,
  then: TargetLabels | undefined,
  now: TargetLabels,
  catalog: CatalogLabels | undefined,
): Relabelled {
  if (then?.key === now.key) return { likely: analysis, others: [] };
  const changes = labelChanges(then ?? unknownLabels, now);
  let open = false;
  const ask = (subject: Subject) =>
    changes.map((change) => {
      const answer = hasLabel(change, subject, then !== undefined);
      open ||= answer.least !== answer.most;
      return answer;
    });
  const answers = analysis.statements.map(({ relations, columns }) => ({
    relations: relations.map(({ schema, name, labels }) =>
      ask({
        schema,
        relation: name,
        recorded: labels,
        isNamed: (change) => change.relations.has(`${schema}.${name}`),
        inCatalog: catalog?.ofRelation(schema, name),
      }),
    ),
    columns: columns.map(({ schema, table, column, labels }) =>
      ask({
        schema,
        relation: table,
        recorded: labels,
        isNamed: (change) => change.columns.has(`${schema}.${table}.${column}`),
        inCatalog: catalog?.ofColumn(schema, table, column),
      }),
    ),
  }));
  const build = (which: keyof Answer): CommandAnalysis => {
    const labelsOf = (answered: readonly Answer[] | undefined) =>
      changes.filter((_, index) => answered?.[index]?.[which]).map(({ label }) => label);
    return Object.freeze({
      ...analysis,
      statements: analysis.statements.map((statement, at) => ({
        ...statement,
        relations: statement.relations.map((one, n) => ({ ...one, labels: labelsOf(answers[at]?.relations[n]) })),
        columns: statement.columns.map((one, n) => ({ ...one, labels: labelsOf(answers[at]?.columns[n]) })),
      })),
    });
  };
  const likely = build("likely");
  if (!open) return { likely, others: [] };
  return {
    likely,
    others: [build("least"), build("most")].filter((other) => !Bun.deepEquals(other.statements, likely.statements)),
  };
}

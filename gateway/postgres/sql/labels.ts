/**
 * Which columns carry a label: those named, by attribute once they were seen (a rename keeps the label), and those
 * that their values flow into, in children and partitions, generated columns and views.
 */

import {
  attributeKey,
  type Catalog,
  type CatalogColumn,
  type CatalogRelation,
  type ColumnLabels,
  type LabelMap,
} from "./catalog.ts";
import type { BaseColumn } from "./scope.ts";
import { factsOfView } from "./view.ts";

export interface Attribute {
  readonly oid: number;
  readonly attnum: number;
}

const statistics = ["pg_statistic", "pg_stats", "pg_statistic_ext_data", "pg_stats_ext", "pg_stats_ext_exprs"];

export function bindLabels(
  catalog: Catalog,
  labelsByName: ReadonlyMap<string, readonly string[]>,
  previous: ReadonlyMap<string, Attribute>,
): { labels: LabelMap; bindings: Map<string, Attribute> } {
  const labels = new Map<string, ColumnLabels>();
  const bindings = new Map<string, Attribute>();
  const add = (
    relation: CatalogRelation,
    column: CatalogColumn,
    more: readonly string[],
    derived: boolean,
  ): boolean => {
    const key = attributeKey(relation.oid, column.attnum);
    const known = labels.get(key);
    const all = [...new Set([...(known?.labels ?? []), ...more])].sort();
    if (known && known.labels.length === all.length) return false;
    labels.set(key, {
      labels: all,
      column: `${relation.schema}.${relation.name}.${column.name}`,
      derived: derived || known?.derived === true,
    });
    return true;
  };

  const before = boundBefore(previous);
  for (const [name, given] of labelsByName) {
    const kept = (before.get(name) ?? []).map((one) => attribute(catalog, one));
    // A new column that took the name of a renamed one is labelled, too, and stays so when it is renamed itself.
    for (const bound of [...kept, named(catalog, name)]) {
      if (bound === undefined) continue;
      const { oid } = bound.relation;
      const { attnum } = bound.column;
      bindings.set(`${name}#${attributeKey(oid, attnum)}`, { oid, attnum });
      add(bound.relation, bound.column, given, false);
    }
  }
  if (labels.size === 0) return { labels, bindings };
  const everyLabel = [...new Set([...labelsByName.values()].flat())].sort();

  // Samples of every column's values.
  for (const name of statistics) {
    const relation = catalog.relation("pg_catalog", name);
    for (const column of relation?.columns ?? []) if (relation) add(relation, column, everyLabel, true);
  }

  // Labels flow until nothing changes: a child of a child, a view over a view.
  for (let changed = true; changed; ) {
    changed = false;
    for (const relation of catalog.relations()) {
      for (const parent of relation.parents) {
        for (const column of catalog.relationByOid(parent)?.columns ?? []) {
          const inherited = labels.get(attributeKey(parent, column.attnum));
          const own = inherited && relation.columns.find(({ name }) => name === column.name);
          if (inherited && own && add(relation, own, inherited.labels, inherited.derived)) changed = true;
        }
        // A query of the parent gives the children's rows under the parent's columns.
        const above = catalog.relationByOid(parent);
        for (const column of relation.columns) {
          const carried = labels.get(attributeKey(relation.oid, column.attnum));
          const theirs = carried && above?.columns.find(({ name }) => name === column.name);
          if (carried && above && theirs && add(above, theirs, carried.labels, carried.derived)) changed = true;
        }
      }
      for (const column of relation.columns) {
        if (column.generated === null) continue;
        for (const other of relation.columns) {
          const carried = labels.get(attributeKey(relation.oid, other.attnum));
          if (
            carried &&
            other !== column &&
            mentions(column.generated, other.name) &&
            add(relation, column, carried.labels, true)
          )
            changed = true;
        }
      }
      if (relation.definition !== null && throughView(catalog, relation, labels, everyLabel, add)) changed = true;
    }
  }
  return { labels, bindings };
}

/** The name of what is bound. */
export function withoutAttribute(key: string): string {
  return key.replace(/#\d+\.\d+$/, "");
}

/** By name, which may be bound to several columns: each that ever had it. */
function boundBefore(previous: ReadonlyMap<string, Attribute>): Map<string, Attribute[]> {
  const found = new Map<string, Attribute[]>();
  for (const [key, bound] of previous) {
    for (const name of new Set([key, withoutAttribute(key)])) found.set(name, [...(found.get(name) ?? []), bound]);
  }
  return found;
}

function throughView(
  catalog: Catalog,
  view: CatalogRelation,
  labels: LabelMap,
  everyLabel: readonly string[],
  add: (relation: CatalogRelation, column: CatalogColumn, more: readonly string[], derived: boolean) => boolean,
): boolean {
  const facts = factsOfView(view, { catalog, searchPath: catalog.searchPath, labels: new Map() });
  let changed = false;
  const live = view.columns;
  live.forEach((column, index) => {
    const result = facts.result.columns[index];
    // A view that is not understood may show anything.
    if (facts.result.open !== null || facts.incomplete.size > 0 || result === undefined) {
      if (add(view, column, everyLabel, true)) changed = true;
      return;
    }
    const carried = result.sources.flatMap(
      (source) => labels.get(attributeKey(source.relation.oid, source.column.attnum)) ?? [],
    );
    if (carried.length === 0) return;
    const isOther = ({ relation, column: { attnum } }: BaseColumn) =>
      result.bare?.relation.oid !== relation.oid || result.bare.column.attnum !== attnum;
    const derived =
      carried.some((one) => one.derived) ||
      result.sources.some((one) => isOther(one) && labels.has(attributeKey(one.relation.oid, one.column.attnum)));
    if (
      add(
        view,
        column,
        carried.flatMap((one) => one.labels),
        derived,
      )
    )
      changed = true;
  });
  return changed;
}

/** Whether an expression's text may use a column: it is enough that its name occurs. */
function mentions(expression: string, name: string): boolean {
  return expression.includes(name) || expression.includes(name.replaceAll('"', '""'));
}

function attribute(catalog: Catalog, bound: Attribute | undefined) {
  const relation = bound && catalog.relationByOid(bound.oid);
  const column = relation?.columns.find(({ attnum }) => attnum === bound?.attnum);
  return relation && column ? { relation, column } : undefined;
}

function named(catalog: Catalog, name: string) {
  const [schema, table, column, ...rest] = name.split(".");
  if (schema === undefined || table === undefined || column === undefined || rest.length > 0) return undefined;
  const relation = catalog.relation(schema, table);
  const found = relation?.columns.find((one) => one.name === column);
  return relation && found ? { relation, column: found } : undefined;
}

/**
 * Which columns carry a label: those named, by attribute once they were seen (a rename keeps the label), and those
 * that their values flow into, in children and partitions, generated columns and views.
 */
import { factsOfView } from "./analyse.ts";
import {
  attributeKey,
  type Catalog,
  type CatalogColumn,
  type CatalogRelation,
  type ColumnLabels,
  type LabelMap,
} from "./catalog.ts";

export interface Attribute {
  readonly oid: number;
  readonly attnum: number;
}

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

  for (const [name, given] of labelsByName) {
    const bound = attribute(catalog, previous.get(name)) ?? named(catalog, name);
    if (bound === undefined) continue;
    bindings.set(name, { oid: bound.relation.oid, attnum: bound.column.attnum });
    add(bound.relation, bound.column, given, false);
  }
  if (labels.size === 0) return { labels, bindings };
  const everyLabel = [...new Set([...labelsByName.values()].flat())].sort();

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
      }
      for (const column of relation.columns) {
        if (column.generated === null) continue;
        for (const other of relation.columns) {
          const carried = labels.get(attributeKey(relation.oid, other.attnum));
          if (
            carried &&
            other !== column &&
            column.generated.includes(other.name) &&
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
    const derived = result.bare === null || carried.some((one) => one.derived);
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

/**
 * Which columns carry a label: those named, by attribute once they were seen (a rename keeps the label), and those
 * that their values flow into, in children and partitions, columns of whole rows, generated ones and views. What keeps such values itself
 * is bound as well: it has them still when nothing in the catalog leads there any more.
 */

import {
  attributeKey,
  type Catalog,
  type CatalogColumn,
  type CatalogRelation,
  type ColumnLabels,
  firstUsersOid,
  type LabelMap,
} from "./catalog.ts";
import type { BaseColumn } from "./scope.ts";
import { factsOfView } from "./view.ts";

export interface Attribute {
  readonly oid: number;
  readonly attnum: number;
}

/** name#oid.attnum, or name~oid.attnum of what was computed of the named column -> the attribute */
export type Bindings = ReadonlyMap<string, Attribute>;

const statistics = ["pg_statistic", "pg_stats", "pg_statistic_ext_data", "pg_stats_ext", "pg_stats_ext_exprs"];

/** @param onlyBound whether a name says nothing that was not bound before: what it names now may not stay */
export function bindLabels(
  catalog: Catalog,
  labelsByName: ReadonlyMap<string, readonly string[]>,
  previous: Bindings,
  onlyBound = false,
): { labels: LabelMap; bindings: Map<string, Attribute> } {
  const labels = new Map<string, ColumnLabels>();
  /** Names whose labels an attribute has. */
  const names = new Map<string, Set<string>>();
  const namedItself = new Set<string>();
  const bindings = new Map<string, Attribute>();
  const keeping: { readonly key: string; readonly attribute: Attribute }[] = [];
  const add: Add = (relation, column, more, derived) => {
    const key = attributeKey(relation.oid, column.attnum);
    const known = labels.get(key);
    const knownNames = names.get(key) ?? new Set();
    const grown = more.filter((name) => !knownNames.has(name));
    const carried = new Set([...(known?.labels ?? []), ...grown.flatMap((name) => labelsByName.get(name) ?? [])]);
    const isSame = known?.labels.length === carried.size;
    // Who names a column knows what it computes: a mask of that very label is meant for it.
    const isDerived = known?.derived === true || (derived && !(isSame && namedItself.has(key)));
    if (grown.length === 0 && isDerived === (known?.derived === true)) return false;
    if (known === undefined) keeping.push({ key, attribute: { oid: relation.oid, attnum: column.attnum } });
    names.set(key, new Set([...knownNames, ...grown]));
    labels.set(key, {
      labels: [...carried].sort(),
      column: `${relation.schema}.${relation.name}.${column.name}`,
      derived: isDerived,
    });
    return true;
  };

  for (const name of onlyBound ? [] : labelsByName.keys()) {
    // A new column that took the name of a renamed one is labelled, too, and stays so when it is renamed itself.
    const found = named(catalog, name);
    if (found === undefined) continue;
    namedItself.add(attributeKey(found.relation.oid, found.column.attnum));
    add(found.relation, found.column, [name], false);
  }
  for (const [key, bound] of previous) {
    const { name, derived } = keyParts(key);
    const found = labelsByName.has(name) ? attribute(catalog, bound) : undefined;
    if (found) add(found.relation, found.column, [name], derived);
  }
  const boundNames = new Map([...names].map(([key, ofIt]) => [key, [...ofIt]]));
  if (labels.size === 0) return { labels, bindings };
  const everyName = [...labelsByName.keys()];

  // Samples of every column's values.
  for (const name of statistics) {
    const relation = catalog.relation("pg_catalog", name);
    for (const column of relation?.columns ?? []) if (relation) add(relation, column, everyName, true);
  }

  const flow = (from: CatalogRelation, column: CatalogColumn, into: CatalogRelation, name: string): boolean => {
    const key = attributeKey(from.oid, column.attnum);
    const carried = labels.get(key);
    const theirs = carried && into.columns.find((one) => one.name === name);
    return theirs !== undefined && add(into, theirs, [...(names.get(key) ?? [])], carried?.derived === true);
  };
  // Labels flow until nothing changes: a child of a child, a view over a view.
  for (let changed = true; changed; ) {
    changed = false;
    for (const relation of catalog.relations()) {
      for (const parent of relation.parents) {
        const above = catalog.relationByOid(parent);
        if (above === undefined) continue;
        for (const column of above.columns) if (flow(above, column, relation, column.name)) changed = true;
        // A query of the parent gives the children's rows under the parent's columns.
        for (const column of relation.columns) if (flow(relation, column, above, column.name)) changed = true;
      }
      for (const column of relation.columns) {
        for (const within of catalog.relationsWithin(column.typeOid)) {
          for (const { attnum } of within.columns) {
            const carried = names.get(attributeKey(within.oid, attnum));
            if (carried && add(relation, column, [...carried], true)) changed = true;
          }
        }
        if (column.generated === null) continue;
        for (const other of relation.columns) {
          const carried = names.get(attributeKey(relation.oid, other.attnum));
          if (
            carried &&
            other !== column &&
            mentions(column.generated, other.name) &&
            add(relation, column, [...carried], true)
          )
            changed = true;
        }
      }
      if (relation.definition !== null && throughView(catalog, relation, { labels, names, everyName, add }))
        changed = true;
    }
  }

  for (const { key, attribute } of keeping) {
    const keepsValues = attribute.oid >= firstUsersOid && catalog.relationByOid(attribute.oid)?.kind !== "v";
    const mark = labels.get(key)?.derived === true ? "~" : "#";
    for (const name of (keepsValues ? names : boundNames).get(key) ?? [])
      bindings.set(`${name}${mark}${key}`, attribute);
  }
  return { labels, bindings };
}

/** @returns whether that is new */
type Add = (relation: CatalogRelation, column: CatalogColumn, names: readonly string[], derived: boolean) => boolean;

function keyParts(key: string): { readonly name: string; readonly derived: boolean } {
  const [, name = key, mark] = /^(.*)([#~])\d+\.\d+$/s.exec(key) ?? [];
  return { name, derived: mark === "~" };
}

/** The name of what is bound. */
export function boundName(key: string): string {
  return keyParts(key).name;
}

interface Flow {
  readonly labels: LabelMap;
  readonly names: ReadonlyMap<string, ReadonlySet<string>>;
  readonly everyName: readonly string[];
  readonly add: Add;
}

function throughView(catalog: Catalog, view: CatalogRelation, { labels, names, everyName, add }: Flow): boolean {
  const facts = factsOfView(view, { catalog, searchPath: catalog.searchPath, labels: new Map() });
  let changed = false;
  const live = view.columns;
  live.forEach((column, index) => {
    const result = facts.result.columns[index];
    // A view that is not understood may show anything.
    if (facts.result.open !== null || facts.incomplete.size > 0 || result === undefined) {
      if (add(view, column, everyName, true)) changed = true;
      return;
    }
    const keys = result.sources.map((source) => attributeKey(source.relation.oid, source.column.attnum));
    const carried = keys.flatMap((key) => labels.get(key) ?? []);
    if (carried.length === 0) return;
    const isOther = ({ relation, column: { attnum } }: BaseColumn) =>
      result.bare?.relation.oid !== relation.oid || result.bare.column.attnum !== attnum;
    const derived =
      carried.some((one) => one.derived) ||
      result.sources.some((one) => isOther(one) && labels.has(attributeKey(one.relation.oid, one.column.attnum)));
    const theirs = keys.flatMap((key) => [...(names.get(key) ?? [])]);
    if (add(view, column, theirs, derived)) changed = true;
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

/** Names that a query can see: its FROM items, and around them those of the queries it stands in. */
import type { Body } from "./ast.ts";
import type { CatalogColumn, CatalogRelation } from "./catalog.ts";

/** A column of a relation of the catalog. */
export interface BaseColumn {
  readonly relation: CatalogRelation;
  readonly column: CatalogColumn;
}

/** A column of a FROM item or of a query's result. */
export interface ScopeColumn {
  readonly name: string;
  /** (table OID, attnum) as RowDescription gives it, or null where it gives 0/0. */
  readonly origin: { readonly oid: number; readonly attnum: number } | null;
  /** The column whose very value this is; null for a computed one. */
  readonly bare: BaseColumn | null;
  /** Every column whose value may be in this one; grows while a recursive query is analysed. */
  readonly sources: readonly BaseColumn[];
  /** Something outside the query that made it uses it. */
  referenced: boolean;
  /** The column of an inner query that this one passes on. */
  readonly via: ScopeColumn | null;
}

export interface Item {
  readonly alias: string;
  /** Schema of a relation that was not renamed. */
  readonly schema: string | null;
  readonly relation: CatalogRelation | null;
  readonly columns: readonly ScopeColumn[];
  /** What its tableoid tells. */
  readonly placedBy?: () => readonly BaseColumn[];
  /** What columns that are not listed carry, where not all are known; null where all are. */
  readonly open: readonly BaseColumn[] | null;
}

/** One FROM item or tree of joins: `items` are seen by name, `columns` without one and by `*`. */
export interface Range {
  readonly items: readonly Item[];
  readonly columns: readonly ScopeColumn[];
  /** Not every column is known. */
  readonly open: boolean;
}

export interface Cte {
  readonly name: string;
  readonly body: Body;
  /** Where its query stands. */
  readonly scope: Scope;
  readonly recursive: boolean;
  state: "new" | "running" | "done";
  selfReferenced: boolean;
  result: QueryResult;
  /** In a view: what decides which rows it has. */
  deciding: readonly BaseColumn[];
}

export interface QueryResult {
  readonly columns: readonly ScopeColumn[];
  /** Sources of result columns that are not known one by one; null where all are known. */
  readonly open: readonly BaseColumn[] | null;
}

export interface Scope {
  readonly parent: Scope | null;
  readonly ctes: Map<string, Cte>;
  readonly ranges: Range[];
  /** The query's WINDOW clause. */
  windows?: ReadonlyMap<string, Body>;
}

export function childOf(parent: Scope | null): Scope {
  return { parent, ctes: new Map(), ranges: [] };
}

export function computed(name: string, sources: readonly BaseColumn[]): ScopeColumn {
  return { name, origin: null, bare: null, sources, referenced: false, via: null };
}

export function renamed(column: ScopeColumn, name: string): ScopeColumn {
  return { ...column, name, referenced: false, via: column };
}

/** Marks a column, and what it passes on, as used. */
export function reference(column: ScopeColumn): void {
  for (let one: ScopeColumn | null = column; one !== null; one = one.via) one.referenced = true;
}

export function union(...parts: readonly (readonly BaseColumn[])[]): BaseColumn[] {
  const all = new Map<string, BaseColumn>();
  for (const part of parts) {
    for (const source of part) all.set(`${source.relation.oid}.${source.column.attnum}`, source);
  }
  return [...all.values()];
}

export function sameColumn(a: BaseColumn, b: BaseColumn | null): boolean {
  return b !== null && a.relation === b.relation && a.column === b.column;
}

export function rangeOf(item: Item): Range {
  return { items: [item], columns: item.columns, open: item.open !== null };
}

export const emptyResult: QueryResult = { columns: [], open: null };

const systemColumns = new Map([
  ["ctid", -1],
  ["xmin", -2],
  ["cmin", -3],
  ["xmax", -4],
  ["cmax", -5],
  ["tableoid", -6],
]);

export function columnsOf(relation: CatalogRelation): ScopeColumn[] {
  return relation.columns.map((column) => {
    const base = { relation, column };
    return {
      name: column.name,
      origin: { oid: relation.oid, attnum: column.attnum },
      bare: base,
      sources: [base],
      referenced: false,
      via: null,
    };
  });
}

function systemColumn(item: Item, name: string): ScopeColumn | undefined {
  const attnum = systemColumns.get(name);
  // A view's and a composite type's rows lie nowhere.
  if (attnum === undefined || item.relation === null || /^[vc]$/.test(item.relation.kind)) return undefined;
  const sources = name === "tableoid" ? (item.placedBy?.() ?? []) : [];
  return { ...computed(name, sources), origin: { oid: item.relation.oid, attnum } };
}

export type Found =
  /** guessed: of an item whose columns are not known, which may have none of that name. */
  | { readonly kind: "column"; readonly column: ScopeColumn; readonly guessed: boolean }
  | { readonly kind: "ambiguous" }
  | { readonly kind: "absent" };

/** What a name is looked for among. */
export function widthOf(scope: Scope | null): number {
  let width = 0;
  for (let level = scope; level !== null; level = level.parent) {
    width += 1;
    for (const { columns, items } of level.ranges) width += columns.length + items.length;
  }
  return width;
}

const absent: Found = { kind: "absent" };

/** A column by its name alone: the innermost query that has it. */
export function findColumn(scope: Scope | null, name: string): Found {
  let guesses: BaseColumn[] | null = null;
  for (let level = scope; level !== null; level = level.parent) {
    const here: ScopeColumn[] = [];
    for (const range of level.ranges) {
      for (const column of range.columns) if (column.name === name) here.push(column);
    }
    if (here.length === 0) {
      // Those of tables below a join, and of RETURNING's old and new, are seen by their names only.
      for (const { items, columns } of level.ranges) {
        const [item, ...more] = items;
        if (columns.length === 0 && item !== undefined && item.columns.length > 0) continue;
        const column = item && more.length === 0 ? systemColumn(item, name) : undefined;
        if (column) here.push(column);
      }
    }
    if (here.length > 1) return { kind: "ambiguous" };
    const [column] = here;
    if (column) {
      if (guesses === null) return { kind: "column", column, guessed: false };
      // An inner item whose columns are not known may have it, too.
      reference(column);
      return { kind: "column", column: computed(name, union(guesses, column.sources)), guessed: true };
    }
    for (const range of level.ranges) {
      for (const item of range.items) if (item.open) guesses = union(guesses ?? [], item.open);
    }
  }
  return guesses === null ? absent : { kind: "column", column: computed(name, guesses), guessed: true };
}

/** A FROM item by its alias, or by schema and name where it has none. */
export function findItem(scope: Scope | null, schema: string | null, name: string): Item | "ambiguous" | undefined {
  for (let level = scope; level !== null; level = level.parent) {
    const here = level.ranges.flatMap((range) =>
      range.items.filter((item) => item.alias === name && (schema === null || item.schema === schema)),
    );
    if (here.length > 1) return "ambiguous";
    if (here[0]) return here[0];
  }
  return undefined;
}

export function columnIn(item: Item, name: string): Found {
  const found = item.columns.filter((column) => column.name === name);
  if (found.length > 1) return { kind: "ambiguous" };
  const column = found[0] ?? systemColumn(item, name);
  if (column) return { kind: "column", column, guessed: false };
  return item.open ? { kind: "column", column: computed(name, item.open), guessed: true } : absent;
}

export function findCte(scope: Scope | null, name: string): Cte | undefined {
  for (let level = scope; level !== null; level = level.parent) {
    const cte = level.ctes.get(name);
    if (cte) return cte;
  }
  return undefined;
}

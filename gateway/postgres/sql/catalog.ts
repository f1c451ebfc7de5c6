/** What the analyser knows of a database: a snapshot of names, columns, views and functions. Loaded by `load-catalog.ts`. */

export interface CatalogColumn {
  readonly attnum: number;
  readonly name: string;
  readonly typeOid: number;
  /** Expression of a generated column, or null. */
  readonly generated: string | null;
}

export interface CatalogRelation {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  /** pg_class.relkind: r table, p partitioned, v view, m materialised view, f foreign, S sequence, t toast, c composite. */
  readonly kind: string;
  readonly columns: readonly CatalogColumn[];
  /** Oids of inheritance parents, a partition's table included. */
  readonly parents: readonly number[];
  /** SELECT text of a view outside pg_catalog and information_schema, or null. */
  readonly definition: string | null;
}

export interface Catalog {
  relation(schema: string, name: string): CatalogRelation | undefined;
  relationByOid(oid: number): CatalogRelation | undefined;
  relations(): Iterable<CatalogRelation>;
  hasSchema(schema: string): boolean;
  /** Whether a function of that name exists in the schema. */
  hasFunction(schema: string, name: string): boolean;
  /** Functions behind operators of users (outside pg_catalog) of that name, schema-qualified; empty for built-in ones. */
  operatorFunctions(operator: string): readonly string[];
}

/** What a session's names resolve through. */
export interface NameContext {
  readonly catalog: Catalog;
  /** current_schemas(true): pg_temp and pg_catalog included where they take part, first match wins. */
  readonly searchPath: readonly string[];
  /** `${oid}.${attnum}` -> labels of the column. */
  readonly labels: LabelMap;
}

export interface ColumnLabels {
  readonly labels: readonly string[];
  /** schema.table.column as the catalog names it now. */
  readonly column: string;
  /** The column's value is computed from labelled ones (a view's expression): partial and hash masks do not fit it. */
  readonly derived: boolean;
}
export type LabelMap = ReadonlyMap<string, ColumnLabels>;

/** What the analyser knows of a database: a snapshot of names, columns, views and functions. Loaded by `load-catalog.ts`. */

/** PostgreSQL's own objects are below it. */
export const firstUsersOid = 16_384;

export interface CatalogColumn {
  readonly attnum: number;
  readonly name: string;
  readonly typeOid: number;
  readonly typeModifier: number;
  /** Expression of a generated column, or null. */
  readonly generated: string | null;
}

export interface CatalogRelation {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  /** pg_class.relkind: r table, p partitioned, v view, m materialised view, f foreign, S sequence, c composite. */
  readonly kind: string;
  readonly columns: readonly CatalogColumn[];
  /** Oids of inheritance parents, a partition's table and a typed table's type included. */
  readonly parents: readonly number[];
  /** SELECT text of a view that is not PostgreSQL's own, or null. */
  readonly definition: string | null;
  /** Of a definition: current_schemas(true) that its text is spelled for (the snapshot's where it is left out) … */
  readonly spelledFor?: readonly string[];
  /** … and what differs whenever the text would. */
  readonly version?: string;
  /** Attnums of what a partitioned table is partitioned by; 0 stands for an expression. */
  readonly partitionKey?: readonly number[];
  /** Writes to it are rewritten by rules of users. */
  readonly hasRules?: boolean;
}

/** A function behind an operator that is neither PostgreSQL's own nor an extension's. */
export interface CatalogOperator {
  readonly schema: string;
  readonly name: string;
  /** schema.function */
  readonly function: string;
}

export interface RowType {
  readonly typeOid: number;
  readonly relationOid: number;
}

export interface CatalogSnapshot {
  readonly relations: readonly CatalogRelation[];
  readonly schemas: readonly string[];
  /** schema.function */
  readonly functions: readonly string[];
  /** Those of `functions` in PostgreSQL's own schemas that have one of the name which is not its own: an extension's. */
  readonly addedFunctions?: readonly string[];
  readonly operators: readonly CatalogOperator[];
  /** schema.type of users' types; those of relations' rows and of arrays are left out. */
  readonly types?: readonly string[];
  /** Types of columns, by OID, whose values have rows of a relation in them: as such, or in arrays, ranges and domains. */
  readonly rowTypes?: readonly RowType[];
  /** Of the database, as PostgreSQL names it; UTF8 where it is left out. */
  readonly encoding?: string;
  /** current_schemas(true) of the session that took the snapshot; the text of views is spelled for it. */
  readonly searchPath: readonly string[];
  /** Differs whenever the snapshot would. */
  readonly signature: string;
}

export class Catalog {
  /** What it was made of: names can be kept in a file and judged against later. */
  readonly snapshot: CatalogSnapshot;
  readonly signature: string;
  /** @see CatalogSnapshot.searchPath */
  readonly searchPath: readonly string[];
  readonly #byName = new Map<string, CatalogRelation>();
  readonly #byOid = new Map<number, CatalogRelation>();
  readonly #children = new Map<number, CatalogRelation[]>();
  readonly #schemas: ReadonlySet<string>;
  readonly #functions: ReadonlySet<string>;
  readonly #addedFunctions: ReadonlySet<string>;
  readonly #types: ReadonlySet<string>;
  readonly #operators = new Map<string, CatalogOperator[]>();
  readonly #rowTypes: ReadonlyMap<number, readonly RowType[]>;

  constructor(snapshot: CatalogSnapshot) {
    this.snapshot = snapshot;
    this.searchPath = snapshot.searchPath;
    this.signature = snapshot.signature;
    this.#schemas = new Set(snapshot.schemas);
    this.#functions = new Set(snapshot.functions);
    this.#addedFunctions = new Set(snapshot.addedFunctions);
    this.#types = new Set(snapshot.types);
    this.#rowTypes = Map.groupBy(snapshot.rowTypes ?? [], ({ typeOid }) => typeOid);
    for (const relation of snapshot.relations) {
      this.#byOid.set(relation.oid, relation);
      this.#byName.set(`${relation.schema}\u0000${relation.name}`, relation);
      for (const parent of relation.parents) {
        const siblings = this.#children.get(parent);
        if (siblings) siblings.push(relation);
        else this.#children.set(parent, [relation]);
      }
    }
    for (const operator of snapshot.operators) {
      const same = this.#operators.get(operator.name);
      if (same) same.push(operator);
      else this.#operators.set(operator.name, [operator]);
    }
  }

  relation(schema: string, name: string): CatalogRelation | undefined {
    return this.#byName.get(`${schema}\u0000${name}`);
  }
  relationByOid(oid: number): CatalogRelation | undefined {
    return this.#byOid.get(oid);
  }
  relations(): Iterable<CatalogRelation> {
    return this.#byOid.values();
  }
  /** With every child and partition below them. */
  withDescendants(relations: Iterable<CatalogRelation>): ReadonlySet<CatalogRelation> {
    const all = new Set(relations);
    for (const { oid } of all) for (const child of this.#children.get(oid) ?? []) all.add(child);
    return all;
  }
  /** With all that their rows are also rows of. */
  withAncestors(relations: Iterable<CatalogRelation>): ReadonlySet<CatalogRelation> {
    const all = new Set(relations);
    for (const { parents } of all) {
      for (const oid of parents) {
        const parent = this.relationByOid(oid);
        if (parent) all.add(parent);
      }
    }
    return all;
  }
  /** Whose rows a value of the type has in it. */
  relationsWithin(typeOid: number): readonly CatalogRelation[] {
    return (this.#rowTypes.get(typeOid) ?? []).flatMap(({ relationOid }) => this.relationByOid(relationOid) ?? []);
  }
  hasSchema(schema: string): boolean {
    return this.#schemas.has(schema);
  }
  /** Whether a function of that name exists in the schema. */
  hasFunction(schema: string, name: string): boolean {
    return this.#functions.has(`${schema}.${name}`);
  }
  /** @see CatalogSnapshot.addedFunctions @param name schema.function */
  isAddedFunction(name: string): boolean {
    return this.#addedFunctions.has(name);
  }
  /** Every function of a schema; also of others whose name begins with its own and a dot. */
  functionsIn(schema: string): readonly string[] {
    return this.snapshot.functions.filter((name) => name.startsWith(`${schema}.`));
  }
  /** Whether users made a type of that name in the schema, other than a relation's rows. */
  hasType(schema: string, name: string): boolean {
    return this.#types.has(`${schema}.${name}`);
  }
  /** Users' operators of that name, in any schema. */
  operators(name: string): readonly CatalogOperator[] {
    return this.#operators.get(name) ?? [];
  }
}

/** What a session's names resolve through; analyses are kept by its identity. */
export interface NameContext {
  readonly catalog: Catalog;
  /** current_schemas(true): pg_temp and pg_catalog included where they take part, first match wins. */
  readonly searchPath: readonly string[];
  readonly labels: LabelMap;
}

export interface ColumnLabels {
  readonly labels: readonly string[];
  /** schema.table.column as the catalog names it now. */
  readonly column: string;
  /** The column's value is computed from labelled ones (a view's expression): partial and hash masks do not fit it. */
  readonly derived: boolean;
}
/** `${oid}.${attnum}` -> labels of the column. */
export type LabelMap = ReadonlyMap<string, ColumnLabels>;

export function attributeKey(oid: number, attnum: number): string {
  return `${oid}.${attnum}`;
}

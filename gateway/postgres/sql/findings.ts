/** What the analysis of one statement has found so far, in the terms of policy. */
import { limits } from "../../limits.ts";
import type { ColumnInput, ColumnUse, RelationInput, StatementClass } from "../../policy/input.ts";
import type { Body, Node } from "./ast.ts";
import { attributeKey, type CatalogRelation, type LabelMap, type NameContext } from "./catalog.ts";
import { addedFunction, isOwnFunction, isSystemSchema } from "./names.ts";
import { columnsThatPlace, columnsThatPlaced } from "./partition.ts";
import {
  type BaseColumn,
  type Item,
  type QueryResult,
  reference,
  type Scope,
  type ScopeColumn,
  sameColumn,
  union,
} from "./scope.ts";
import { type UnknownKind, type UnknownName, unknownName } from "./unknown-name.ts";

export class TooComplex extends Error {}

/** What the analysis of one command may take: the one thread waits for it. */
export class Budget {
  #steps: number = limits.analysisStepsMax;

  /** @throws TooComplex */
  spend(steps: number): void {
    this.#steps -= steps;
    if (this.#steps < 0) throw new TooComplex();
  }
}
const nodeSteps = 10;

/** Parts of the analysis that call each other in a circle; joined in `analyse-query.ts`. */
export interface Parts {
  /** A SELECT, VALUES or data-modifying statement inside another. */
  query(statement: Node, scope: Scope, findings: Findings): QueryResult;
  select(body: Body, parent: Scope | null, findings: Findings): QueryResult;
  /** A list of result expressions. */
  targets(list: unknown, scope: Scope, findings: Findings): QueryResult;
  view(relation: CatalogRelation, context: NameContext): ViewFacts;
}

export interface ViewFacts {
  readonly result: QueryResult;
  /** What decides which rows it has, and what it computes. */
  readonly deciding: readonly BaseColumn[];
  /** Every relation below it: an error while it is read or written can show any value of theirs. */
  readonly relations: readonly CatalogRelation[];
  readonly functions: ReadonlySet<string>;
  readonly incomplete: ReadonlySet<string>;
}

interface NamedRelation {
  readonly relation: CatalogRelation | null;
  readonly schema: string;
  readonly name: string;
  readonly access: RelationInput["access"];
  /** With its children's rows: not ONLY. */
  readonly inherits: boolean;
}

const accessOrder = { read: 0, write: 1, ddl: 2 } as const;

export class Findings {
  readonly context: NameContext;
  readonly parts: Parts;
  /** Of a view's definition: who reads the view is not asked about its conditions. */
  readonly inView: boolean;
  readonly functions = new Set<string>();
  readonly features = new Set<string>();
  readonly incomplete = new Set<string>();
  /** Those of the reasons in `incomplete` that are names which the catalog does not have, in the order of the analysis. */
  readonly unknown = new Map<string, UnknownName>();
  /** What DDL calls a relation from now on. */
  readonly newNames: string[] = [];
  bounded = true;
  /** Raised by what a statement does beside its verb: a data-modifying CTE, SELECT INTO. */
  class: StatementClass | undefined;
  /** It has more than constants: whatever computes may name operators, types, functions or fields. */
  usesNames = false;
  changesCatalog = false;
  changesSession = false;
  readonly #relations = new Map<string, NamedRelation>();
  readonly #uses = new Map<string, { source: BaseColumn; use: ColumnUse }>();
  /** What the parts that are observed have used so far. */
  readonly #observers: BaseColumn[][] = [];
  readonly #inner: ScopeColumn[] = [];
  readonly #budget: Budget;

  constructor(context: NameContext, parts: Parts, budget: Budget, inView = false) {
    this.context = context;
    this.parts = parts;
    this.#budget = budget;
    this.inView = inView;
  }

  /** A node was visited. @throws TooComplex */
  visited(): void {
    this.#budget.spend(nodeSteps);
  }

  /** @param steps one for each column or item that a loop goes over. @throws TooComplex */
  spend(steps: number): void {
    this.#budget.spend(steps);
  }

  relation(relation: CatalogRelation, access: RelationInput["access"], inherits = true): void {
    this.namedRelation(relation.schema, relation.name, access, relation, inherits);
    if (access === "write" && relation.hasRules === true) {
      this.incomplete.add(`rules of ${relation.schema}.${relation.name} run other statements`);
    }
    if (relation.kind !== "v" && relation.kind !== "m") return;
    if (relation.definition === null && isSystemSchema(relation.schema)) return;
    const facts = this.parts.view(relation, this.context);
    for (const name of facts.functions) this.calls(name);
    for (const reason of facts.incomplete) this.incomplete.add(reason);
  }

  namedRelation(
    schema: string,
    name: string,
    access: RelationInput["access"],
    relation: CatalogRelation | null,
    inherits = true,
  ): void {
    const key = relationKey(access, schema, name);
    const before = this.#relations.get(key)?.inherits === true;
    this.#relations.set(key, { relation, schema, name, access, inherits: inherits || before });
  }

  /** @param location of the node, as the parser gives it: bytes, left out where it is 0 */
  unknownName(kind: UnknownKind, name: string, location: unknown): void {
    const { reason, sqlstate, message } = unknownName(kind, name);
    this.incomplete.add(reason);
    const offset = typeof location === "number" ? location : 0;
    if (!this.unknown.has(reason)) this.unknown.set(reason, { sqlstate, message, offset });
  }

  /** A use of a base column. */
  source(source: BaseColumn, use: ColumnUse): void {
    this.#uses.set(`${source.relation.oid}.${source.column.attnum}.${use}`, { source, use });
    for (const observer of this.#observers) observer.push(source);
  }

  /** @returns what `run` does, and every column that it uses, however. */
  observed<T>(run: () => T): readonly [T, readonly BaseColumn[]] {
    if (!this.inView) return [run(), []];
    const used: BaseColumn[] = [];
    this.#observers.push(used);
    const result = run();
    this.#observers.pop();
    return [result, union(used)];
  }

  /** A use of a column of a FROM item or subquery: what is in it is used the same way, never as plain output though. */
  use(column: ScopeColumn, use: ColumnUse): readonly BaseColumn[] {
    this.spend(1 + column.sources.length);
    reference(column);
    for (const source of column.sources) {
      this.source(source, use === "output" && !sameColumn(source, column.bare) ? "derived" : use);
    }
    return column.sources;
  }

  sources(sources: readonly BaseColumn[], use: ColumnUse): void {
    this.spend(sources.length);
    for (const source of sources) this.source(source, use);
  }

  /** Result columns of a query inside the statement: what nobody uses is still read. */
  inner(result: QueryResult): void {
    this.spend(result.columns.length);
    for (const column of result.columns) this.#inner.push(column);
    if (result.open) this.sources(result.open, "derived");
  }

  settle(): void {
    for (const column of this.#inner.splice(0)) {
      if (!column.referenced) this.sources(column.sources, "derived");
    }
  }

  /** What naming partitions tells. @param explained its plan names those of tables, and counts their rows */
  partitions(explained: boolean): void {
    const { catalog } = this.context;
    for (const { relation, access } of this.#relations.values()) {
      if (relation === null || access === "ddl") continue;
      const tables = explained ? [relation, ...this.#below(relation)] : [];
      const told = [
        ...columnsThatPlaced(relation, catalog),
        ...tables.flatMap((table) => columnsThatPlace(table, catalog)),
      ];
      for (const source of told) {
        if (this.#labels(source.relation.oid, source.column.attnum).length > 0) this.source(source, "predicate");
      }
    }
  }

  wholeRow(item: Item, use: ColumnUse): readonly BaseColumn[] {
    if (item.relation) this.features.add(`whole_row:${item.relation.schema}.${item.relation.name}`);
    const effective = use === "output" ? "derived" : use;
    const all: BaseColumn[] = [];
    for (const column of item.columns) all.push(...this.use(column, effective));
    if (item.open) {
      this.sources(item.open, effective);
      all.push(...item.open);
    }
    return all;
  }

  calls(name: string): void {
    this.functions.add(name);
    const isAdded = this.context.catalog.isAddedFunction(name);
    if (isAdded) this.functions.add(addedFunction(name));
    // What a function of a user does is not known: it may create tables and set search_path.
    if (isAdded || !isOwnFunction(name)) {
      this.changesCatalog = true;
      this.changesSession = true;
    }
  }

  /** The relations used, those below views included. */
  relationsBelow(): CatalogRelation[] {
    const all = new Set<CatalogRelation>();
    for (const { relation } of this.#relations.values()) {
      if (relation === null) continue;
      all.add(relation);
      for (const below of this.#below(relation)) all.add(below);
    }
    return [...all];
  }

  #below(relation: CatalogRelation): readonly CatalogRelation[] {
    return relation.definition === null ? [] : this.parts.view(relation, this.context).relations;
  }

  /** Those named, and those whose rows they give or take: below a view, and above a partition or child. */
  relationInputs(): RelationInput[] {
    const all = new Map(this.#relations);
    for (const { relation, access } of this.#relations.values()) {
      if (relation === null || access === "ddl") continue;
      const below = this.#below(relation);
      for (const one of this.context.catalog.withAncestors([relation, ...below])) {
        const { schema, name } = one;
        const key = relationKey(access, schema, name);
        const inherits = below.includes(one) || all.get(key)?.inherits === true;
        all.set(key, { relation: one, schema, name, access, inherits });
      }
    }
    return sorted(all).map(({ relation, schema, name, access, inherits }) => ({
      schema,
      name,
      access,
      labels: relation === null ? [] : this.#labelsShown(relation, inherits),
    }));
  }

  /** An error can show any value of the rows that a relation gives or takes: those below a view, and of children. */
  #labelsShown(relation: CatalogRelation, inherits: boolean): readonly string[] {
    const below = this.#below(relation);
    const { catalog, labels } = this.context;
    const rows = inherits || below.length > 0 ? catalog.withDescendants([relation, ...below]) : [relation];
    const byRelation = labelsByRelation(labels);
    const shown = new Set<string>();
    for (const { oid } of rows) for (const label of byRelation.get(oid) ?? []) shown.add(label);
    return [...shown].sort();
  }

  columnInputs(): ColumnInput[] {
    return [...this.#uses.values()]
      .map(({ source: { relation, column }, use }) => ({
        schema: relation.schema,
        table: relation.name,
        column: column.name,
        labels: this.#labels(relation.oid, column.attnum),
        use,
      }))
      .sort((a, b) => compare(key(a), key(b)));
  }

  #labels(oid: number, attnum: number): readonly string[] {
    return this.context.labels.get(attributeKey(oid, attnum))?.labels ?? [];
  }
}

const knownByRelation = new WeakMap<LabelMap, ReadonlyMap<number, ReadonlySet<string>>>();

function labelsByRelation(map: LabelMap): ReadonlyMap<number, ReadonlySet<string>> {
  const known = knownByRelation.get(map);
  if (known) return known;
  const found = new Map<number, Set<string>>();
  for (const [key, { labels }] of map) {
    const oid = Number.parseInt(key, 10);
    found.set(oid, (found.get(oid) ?? new Set()).union(new Set(labels)));
  }
  knownByRelation.set(map, found);
  return found;
}

function relationKey(access: RelationInput["access"], schema: string, name: string): string {
  return `${accessOrder[access]}\u0000${schema}\u0000${name}`;
}
function key(column: ColumnInput): string {
  return `${column.schema}\u0000${column.table}\u0000${column.column}\u0000${column.use}`;
}
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
function sorted<T>(map: ReadonlyMap<string, T>): T[] {
  return [...map].sort(([a], [b]) => compare(a, b)).map(([, value]) => value);
}

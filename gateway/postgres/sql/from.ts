/** FROM: relations, subqueries, functions and joins, as what they let a query see. */
import { type Body, bodyOf, list, type Node, node, nodes, strings, text } from "./ast.ts";
import { expression } from "./expression.ts";
import type { Findings } from "./findings.ts";
import { findFunctions, findRelation, spelled, useOperatorNamed } from "./names.ts";
import { columnsThatPlace, columnsThatPlaced } from "./partition.ts";
import {
  type BaseColumn,
  type Cte,
  childOf,
  columnsOf,
  computed,
  emptyResult,
  findCte,
  type Item,
  type QueryResult,
  type Range,
  rangeOf,
  renamed,
  type Scope,
  type ScopeColumn,
  sameColumn,
  union,
} from "./scope.ts";

/** Adds the items of a FROM clause to a query's scope, from left to right. */
export function fromClause(clause: unknown, scope: Scope, findings: Findings): void {
  for (const item of nodes(clause)) scope.ranges.push(fromItem(item, scope, findings));
}

export function fromItem({ kind, body }: Node, scope: Scope, findings: Findings): Range {
  findings.visited();
  switch (kind) {
    case "RangeVar":
      return rangeOf(rangeVar(body, scope, findings));
    case "RangeSubselect": {
      const query = node(body.subquery);
      // Only LATERAL sees the items to its left: for each of their rows it can have others by its conditions.
      const outside = body.lateral === true ? scope : withoutRanges(scope);
      const [result, used] = findings.observed(() =>
        query ? findings.parts.query(query, childOf(outside), findings) : emptyResult,
      );
      const shown = body.lateral === true ? decidedBy(result, used, findings) : result;
      findings.spend(shown.columns.length);
      return rangeOf(itemOf(shown, bodyOf(body.alias)));
    }
    case "RangeFunction":
      return rangeOf(functions(body, scope, findings));
    case "JoinExpr":
      return join(body, scope, findings);
    case "RangeTableSample": {
      const relation = node(body.relation);
      for (const argument of [...nodes(body.args), node(body.repeatable)]) {
        expression(argument, scope, "predicate", findings);
      }
      return relation ? fromItem(relation, scope, findings) : rangeOf(itemOf(emptyResult, undefined));
    }
    case "RangeTableFunc":
    case "JsonTable":
      return rangeOf(tableFunction({ kind, body }, scope, findings));
    default:
      findings.incomplete.add(`a FROM item (${kind}) is not understood`);
      return rangeOf(itemOf({ columns: [], open: [] }, undefined));
  }
}

/**
 * In a view, whose conditions nobody judges when it is read, a column shows what decides whether it is there; one that its
 * own values decide, of this row or another, is no longer the column itself: its NULLs are a condition's answer.
 */
function decidedBy(result: QueryResult, used: readonly BaseColumn[], findings: Findings): QueryResult {
  if (!findings.inView || used.length === 0) return result;
  const columns = result.columns.map((column) => ({
    ...renamed(column, column.name),
    sources: union(column.sources, used),
    bare: used.some((one) => sameColumn(one, column.bare)) ? null : column.bare,
  }));
  return { columns, open: result.open && union(result.open, used) };
}

/** The scope as seen from a subquery that is not LATERAL: the query's names around it, none of its FROM items. */
function withoutRanges(scope: Scope): Scope {
  return { parent: scope.parent, ctes: scope.ctes, ranges: [] };
}

function rangeVar(body: Body, scope: Scope, findings: Findings): Item {
  const alias = bodyOf(body.alias);
  if (body.schemaname === undefined) {
    const cte = findCte(scope, text(body.relname));
    if (cte) for (const source of cte.deciding) findings.source(source, "predicate");
    if (cte) return { ...itemOf(cteResult(cte, findings), alias), alias: text(alias?.aliasname ?? body.relname) };
  }
  return tableItem(body, findings, "read");
}

/** The relation that a name stands for, as an item of FROM or the target of a write. */
export function tableItem(body: Body, findings: Findings, access: "read" | "write" | "ddl"): Item {
  const alias = bodyOf(body.alias);
  const name = text(alias?.aliasname ?? body.relname);
  const relation = findRelation(body, findings.context);
  if (relation === undefined) {
    findings.unknownName("relation", spelled(body), body.location);
    findings.namedRelation(text(body.schemaname), text(body.relname), access, null);
    return { alias: name, schema: null, relation: null, columns: [], open: [] };
  }
  findings.relation(relation, access, body.inh === true);
  if (findings.inView && relation.definition !== null) {
    for (const source of findings.parts.view(relation, findings.context).deciding) findings.source(source, "predicate");
  }
  findings.spend(2 * relation.columns.length);
  const renamedColumns = withNames(columnsOf(relation), alias);
  const { catalog } = findings.context;
  if (findings.inView) {
    for (const source of columnsThatPlaced(relation, catalog)) findings.source(source, "predicate");
  }
  return {
    alias: name,
    schema: alias ? null : relation.schema,
    relation,
    columns: renamedColumns,
    placedBy: () => columnsThatPlace(relation, catalog),
    open: null,
  };
}

/** Result columns of a WITH query. One that refers to itself is analysed again until what it may carry stands still. */
function cteResult(cte: Cte, findings: Findings): QueryResult {
  findings.spend(cte.result.columns.length);
  if (cte.state === "running") cte.selfReferenced = true;
  if (cte.state !== "new") return cte.result;
  const [result, used] = findings.observed(() => analyseCte(cte, findings));
  cte.deciding = used;
  return result;
}

function analyseCte(cte: Cte, findings: Findings): QueryResult {
  const query = node(cte.body.ctequery) ?? { kind: "SelectStmt", body: {} };
  const alias = { colnames: list(cte.body.aliascolnames) };
  cte.state = "running";
  const shared: BaseColumn[] = [];
  const carry = (result: QueryResult) => {
    const all = union(shared, result.open ?? [], ...result.columns.map((column) => column.sources));
    shared.splice(0, shared.length, ...all);
  };
  if (cte.recursive && query.kind === "SelectStmt" && query.body.op !== "SETOP_NONE" && query.body.op !== undefined) {
    const seedScope = childOf(cte.scope);
    withClause(query.body.withClause, seedScope, findings);
    const seed = findings.parts.select(bodyOf(query.body.larg) ?? {}, seedScope, findings);
    carry(seed);
    cte.result = {
      columns: withNames(seed.columns, alias).map((column) => computed(column.name, shared)),
      open: seed.open ? shared : null,
    };
    for (const added of searchColumns(cte.body)) {
      cte.result = { ...cte.result, columns: [...cte.result.columns, computed(added, shared)] };
    }
  }
  let result = findings.parts.query(query, childOf(cte.scope), findings);
  if (cte.selfReferenced) {
    carry(result);
    result = findings.parts.query(query, childOf(cte.scope), findings);
    carry(result);
    for (const column of result.columns) findings.use(column, "derived");
    result = { columns: result.columns.map((column) => computed(column.name, shared)), open: result.open && shared };
  }
  const all = union(result.open ?? [], ...result.columns.map((column) => column.sources));
  const added = searchColumns(cte.body).map((name) => computed(name, all));
  cte.result = { columns: [...withNames(result.columns, alias), ...added], open: result.open };
  findings.inner(cte.result);
  cte.state = "done";
  return cte.result;
}

/** Columns that SEARCH and CYCLE add. */
function searchColumns(cte: Body): string[] {
  const names: string[] = [];
  const search = bodyOf(cte.search_clause);
  const cycle = bodyOf(cte.cycle_clause);
  if (search) names.push(text(search.search_seq_column));
  if (cycle) names.push(text(cycle.cycle_mark_column), text(cycle.cycle_path_column));
  return names;
}

/** Enters WITH's queries into the scope, and analyses each whether it is used or not. */
export function withClause(clause: unknown, scope: Scope, findings: Findings): void {
  const body = bodyOf(clause);
  if (body === undefined) return;
  const recursive = body.recursive === true;
  const entered: Cte[] = [];
  // Without RECURSIVE a query sees those before it; with it, all of them.
  let around = recursive ? scope : withoutCtes(scope);
  for (const { kind, body: cteBody } of nodes(body.ctes)) {
    if (kind !== "CommonTableExpr") continue;
    const name = text(cteBody.ctename);
    const cte: Cte = {
      name,
      body: cteBody,
      scope: around,
      recursive,
      state: "new",
      selfReferenced: false,
      result: { columns: [], open: [] },
      deciding: [],
    };
    entered.push(cte);
    if (recursive) scope.ctes.set(name, cte);
    else {
      cteResult(cte, findings);
      around = { parent: around, ctes: new Map([[name, cte]]), ranges: [] };
    }
  }
  for (const cte of entered) {
    scope.ctes.set(cte.name, cte);
    cteResult(cte, findings);
  }
}

function withoutCtes(scope: Scope): Scope {
  return { parent: scope.parent, ctes: new Map(), ranges: scope.ranges };
}

function itemOf(result: QueryResult, alias: Body | undefined): Item {
  const columns = withNames(result.columns, alias);
  return { alias: text(alias?.aliasname), schema: null, relation: null, columns, open: result.open };
}

/** Columns under the names of an alias' column list, as far as it goes. */
function withNames(columns: readonly ScopeColumn[], alias: Body | undefined): ScopeColumn[] {
  const names = strings(alias?.colnames);
  return columns.map((column, index) => renamed(column, names[index] ?? column.name));
}

/** Built-in functions whose one result column is named as the function or its alias: no OUT parameter names it. */
const scalarSets = new Set([
  "generate_series",
  "generate_subscripts",
  "regexp_matches",
  "regexp_split_to_table",
  "string_to_table",
  "json_object_keys",
  "jsonb_object_keys",
  "jsonb_path_query",
  "now",
  "version",
]);
/** By the names of their OUT parameters, which an alias does not change (`chooseScalarFunctionAlias`). */
const namedSets: Readonly<Record<string, readonly string[]>> = {
  json_array_elements_text: ["value"],
  jsonb_array_elements_text: ["value"],
  json_array_elements: ["value"],
  jsonb_array_elements: ["value"],
  json_each: ["key", "value"],
  jsonb_each: ["key", "value"],
  json_each_text: ["key", "value"],
  jsonb_each_text: ["key", "value"],
};

function functions(body: Body, scope: Scope, findings: Findings): Item {
  const alias = bodyOf(body.alias);
  const found: ScopeColumn[] = [];
  let open: BaseColumn[] | null = null;
  const calls = nodes(body.functions);
  for (const { body: pair } of calls) {
    const [call, definitions] = list(pair.items);
    const one = node(call);
    const sources = expression(one, scope, "derived", findings);
    const defined = nodes(node(definitions)?.body.items ?? definitions);
    const names = [...defined, ...(calls.length === 1 ? nodes(body.coldeflist) : [])].map((column) =>
      text(column.body.colname),
    );
    if (names.length > 0) {
      for (const name of names) found.push(computed(name, sources));
      continue;
    }
    const called = one?.kind === "FuncCall" ? strings(one.body.funcname) : [];
    const name = called.at(-1) ?? "";
    const builtIn =
      one?.kind !== "FuncCall" ||
      findFunctions(called, findings.context).every(
        (full) => full === `pg_catalog.${name}` && !findings.context.catalog.isAddedFunction(full),
      );
    const listed = builtIn ? namedSets[name] : undefined;
    if (listed) {
      for (const column of listed) found.push(computed(column, sources));
    } else if (builtIn && scalarSets.has(name)) {
      found.push(computed(calls.length === 1 && alias ? text(alias.aliasname) : name, sources));
    } else {
      open = union(open ?? [], sources);
    }
  }
  // How many rows there are is told by the arguments.
  const counted = union(...found.map(({ sources }) => sources));
  if (body.ordinality === true && open === null) found.push(computed("ordinality", counted));
  const name = text(alias?.aliasname ?? defaultName(calls[0]));
  if (open !== null && strings(alias?.colnames).length > 0) {
    // Names given for columns that are not known: they come first, more may follow.
    const named = strings(alias?.colnames).map((column) =>
      computed(column, union(open, ...found.map((one) => one.sources))),
    );
    return { alias: name, schema: null, relation: null, columns: named, open };
  }
  return { alias: name, schema: null, relation: null, columns: withNames(found, alias), open };
}

function defaultName(call: Node | undefined): string {
  const one = node(list(call?.body.items)[0]);
  return one?.kind === "FuncCall" ? (strings(one.body.funcname).at(-1) ?? "") : "";
}

function tableFunction({ kind, body }: Node, scope: Scope, findings: Findings): Item {
  const alias = bodyOf(body.alias);
  const sources: (readonly BaseColumn[])[] = [];
  for (const field of ["docexpr", "rowexpr", "context_item", "passing", "namespaces", "columns", "on_error"]) {
    const value = body[field];
    if (value === undefined) continue;
    sources.push(expression({ kind: "List", body: { items: strip(value) } }, scope, "derived", findings));
  }
  return {
    alias: text(alias?.aliasname) || (kind === "JsonTable" ? "json_table" : "xmltable"),
    schema: null,
    relation: null,
    columns: strings(alias?.colnames).map((column) => computed(column, union(...sources))),
    open: union(...sources),
  };
}

/** Only the expressions of column definitions, whatever they are wrapped in. */
function strip(value: unknown): unknown[] {
  const kept: unknown[] = [];
  const walk = (inner: unknown): void => {
    if (Array.isArray(inner)) return void inner.forEach(walk);
    const body = bodyOf(inner);
    if (body === undefined) return;
    const one = node(body);
    if (
      one &&
      /^[A-Z]/.test(one.kind) &&
      !/^(?:JsonTable|RangeTableFuncCol|JsonTableColumn|JsonTablePathSpec|ResTarget|JsonValueExpr|JsonArgument|JsonBehavior|List)/.test(
        one.kind,
      )
    ) {
      if (one.kind !== "TypeName") kept.push(inner);
      return;
    }
    for (const name in body) if (name !== "typeName") walk(body[name]);
  };
  walk(value);
  return kept;
}

function join(body: Body, scope: Scope, findings: Findings): Range {
  const leftNode = node(body.larg);
  const rightNode = node(body.rarg);
  const nothing = rangeOf(itemOf(emptyResult, undefined));
  const [leftItem, usedLeft] = findings.observed(() => (leftNode ? fromItem(leftNode, scope, findings) : nothing));
  let left = leftItem;
  // What is LATERAL on the right sees the left.
  scope.ranges.push(left);
  const [rightItem, usedRight] = findings.observed(() => (rightNode ? fromItem(rightNode, scope, findings) : nothing));
  let right = rightItem;
  scope.ranges.pop();
  const alias = bodyOf(body.alias);
  let using = strings(body.usingClause);
  if (body.isNatural === true) {
    if (left.open || right.open) findings.incomplete.add("NATURAL JOIN with columns that are not known");
    const there = new Set(right.columns.map(({ name }) => name));
    using = left.columns.map(({ name }) => name).filter((name) => there.has(name));
  }
  const [merged, usedByCondition] = findings.observed(() => {
    const columns = using.map((name) => joined(left, right, name, text(body.jointype), findings));
    // ON sees the two sides only, and the queries around.
    const on = { parent: scope.parent, ctes: scope.ctes, ranges: [left, right] };
    expression(node(body.quals), on, "predicate", findings);
    return columns;
  });
  // The optional side of an outer join is NULL where its condition does not hold, or where it has no row.
  const type = text(body.jointype);
  if (type !== "JOIN_INNER" && type !== "JOIN_RIGHT")
    right = decidedRange(right, union(usedByCondition, usedRight), findings);
  if (type !== "JOIN_INNER" && type !== "JOIN_LEFT")
    left = decidedRange(left, union(usedByCondition, usedLeft), findings);
  findings.spend((left.columns.length + right.columns.length) * (1 + using.length));
  const rest = (range: Range) => range.columns.filter(({ name }) => !using.includes(name));
  const columns = [...merged, ...rest(left), ...rest(right)];
  const items = [...left.items, ...right.items];
  const open = left.open || right.open;
  if (alias) {
    const unknown = union(...items.map((item) => item.open ?? []));
    return rangeOf(itemOf({ columns, open: open ? unknown : null }, alias));
  }
  const usingAlias = bodyOf(body.join_using_alias);
  if (usingAlias) items.push(itemOf({ columns: merged, open: null }, usingAlias));
  return { items, columns, open };
}

/** A column of USING or NATURAL. */
function joined(left: Range, right: Range, name: string, jointype: string, findings: Findings): ScopeColumn {
  const a = only(left, name, findings);
  const b = only(right, name, findings);
  findings.use(a, "predicate");
  findings.use(b, "predicate");
  useOperatorNamed(["="], findings);
  return mergedColumn(name, a, b, jointype);
}

function decidedRange(range: Range, used: readonly BaseColumn[], findings: Findings): Range {
  if (!findings.inView || used.length === 0) return range;
  const items = range.items.map((item) => ({ ...item, ...decidedBy(item, used, findings) }));
  return { ...range, items, columns: decidedBy({ columns: range.columns, open: null }, used, findings).columns };
}

function only(range: Range, name: string, findings: Findings): ScopeColumn {
  findings.spend(range.columns.length);
  const [column, another] = range.columns.filter((one) => one.name === name);
  if (column && another === undefined) return column;
  if (!range.open) findings.incomplete.add(`USING names "${name}", which is no single column`);
  return computed(name, union(...range.items.map((item) => item.open ?? [])));
}

/** INNER and LEFT keep the left column, RIGHT the right one, where no coercion is needed; FULL computes. */
function mergedColumn(name: string, left: ScopeColumn, right: ScopeColumn, jointype: string): ScopeColumn {
  const sources = union(left.sources, right.sources);
  const a = left.bare?.column;
  const b = right.bare?.column;
  const alike = a !== undefined && b !== undefined && a.typeOid === b.typeOid && a.typeModifier === b.typeModifier;
  const kept = jointype === "JOIN_RIGHT" ? right : jointype === "JOIN_FULL" ? undefined : left;
  if (!alike || kept === undefined) return computed(name, sources);
  return { ...kept, name, sources, referenced: false, via: kept };
}

/** SELECT, VALUES and set operations: their result columns and what each clause uses. */
import { limits } from "../../limits.ts";
import { type Body, bodyOf, isBody, type Node, node, nodes, strings, text } from "./ast.ts";
import { columnName } from "./column-name.ts";
import { expression, readValue, starItem, window } from "./expression.ts";
import { type Findings, TooComplex } from "./findings.ts";
import { fromClause, withClause } from "./from.ts";
import { modify } from "./modify.ts";
import {
  type BaseColumn,
  childOf,
  computed,
  findColumn,
  type QueryResult,
  renamed,
  type Scope,
  type ScopeColumn,
  union,
  widthOf,
} from "./scope.ts";

const writes = new Set(["InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"]);

/** A statement inside another: a SELECT, or with WITH one that writes. */
export function query(statement: Node, scope: Scope, findings: Findings): QueryResult {
  if (statement.kind === "SelectStmt") return select(statement.body, scope, findings);
  if (writes.has(statement.kind)) {
    findings.features.add("data_modifying_cte");
    findings.class = "write";
    const result = modify(statement, scope, findings);
    findings.inner(result);
    return result;
  }
  findings.incomplete.add(`a query inside the statement (${statement.kind}) is not understood`);
  return { columns: [], open: [] };
}

export function select(body: Body, parent: Scope | null, findings: Findings): QueryResult {
  findings.visited();
  const scope = childOf(parent);
  withClause(body.withClause, scope, findings);
  if (body.lockingClause !== undefined) {
    findings.features.add("for_update");
    // A row lock is written to the row, and keeps its writers waiting.
    findings.class = "write";
  }
  if (body.intoClause !== undefined && bodyOf(body.intoClause) !== undefined && parent !== null) {
    findings.incomplete.add("INTO inside a query");
  }
  const result =
    body.op !== undefined && body.op !== "SETOP_NONE"
      ? setOperation(body, scope, findings)
      : body.valuesLists !== undefined
        ? values(body, scope, findings)
        : plainSelect(body, scope, findings);
  for (const limit of [node(body.limitCount), node(body.limitOffset)]) expression(limit, scope, "predicate", findings);
  findings.inner(result);
  return result;
}

function setOperation(body: Body, scope: Scope, findings: Findings): QueryResult {
  const left = select(bodyOf(body.larg) ?? {}, scope, findings);
  const right = select(bodyOf(body.rarg) ?? {}, scope, findings);
  const all = [left, right];
  for (const side of all) {
    for (const column of side.columns) {
      findings.use(column, "derived");
      // Without ALL, rows are compared.
      if (body.all !== true || body.op !== "SETOP_UNION") findings.use(column, "order");
    }
  }
  const open = left.open || right.open ? union(...all.map(everything)) : null;
  const columns = open
    ? []
    : left.columns.map((column, index) =>
        computed(column.name, union(column.sources, right.columns[index]?.sources ?? [])),
      );
  const result = { columns, open };
  orderBy(body.sortClause, result, null, scope, findings);
  return result;
}

function everything(result: QueryResult): BaseColumn[] {
  return union(result.open ?? [], ...result.columns.map((column) => column.sources));
}

function values(body: Body, scope: Scope, findings: Findings): QueryResult {
  const columns: BaseColumn[][] = [];
  for (const row of nodes(body.valuesLists)) {
    nodes(row.body.items).forEach((value, index) => {
      columns[index] = union(columns[index] ?? [], expression(value, scope, "derived", findings));
    });
  }
  const result = { columns: columns.map((sources, index) => computed(`column${index + 1}`, sources)), open: null };
  orderBy(body.sortClause, result, null, scope, findings);
  return result;
}

/** In PostgreSQL's order, so that of several names that do not exist the same is told. */
function plainSelect(body: Body, scope: Scope, findings: Findings): QueryResult {
  fromClause(body.fromClause, scope, findings);
  if (body.windowClause !== undefined) {
    scope.windows = new Map(nodes(body.windowClause).map((one) => [text(one.body.name), one.body]));
  }
  const result = targets(body.targetList, scope, findings);
  expression(node(body.whereClause), scope, "predicate", findings);
  groupBy(body.groupClause, result, scope, findings);
  expression(node(body.havingClause), scope, "predicate", findings);
  for (const { body: definition } of nodes(body.windowClause)) window(definition, scope, findings);
  const distinct = nodes(body.distinctClause);
  if (Array.isArray(body.distinctClause)) {
    if (distinct.length > 0) orderItems(distinct, result, scope, scope, findings);
    else for (const column of result.columns) for (const source of column.sources) findings.source(source, "order");
  }
  orderBy(body.sortClause, result, scope, scope, findings);
  if (body.groupDistinct === true) findings.features.add("group.distinct");
  return result;
}

/** A list of result expressions, of SELECT or RETURNING. */
export function targets(targetList: unknown, scope: Scope, findings: Findings): QueryResult {
  const columns: ScopeColumn[] = [];
  let open: BaseColumn[] | null = null;
  for (const { body } of nodes(targetList)) {
    const value = node(body.val);
    if (value === undefined) continue;
    const star = expandStar(value, scope, findings);
    if (star) {
      findings.spend(star.columns.length);
      for (const column of star.columns) columns.push(renamed(column, column.name));
      // PostgreSQL itself takes no more.
      if (columns.length > limits.columnsMax) throw new TooComplex();
      if (star.open) open = union(open ?? [], star.open);
      continue;
    }
    const name = body.name === undefined ? columnName(value) : text(body.name);
    if (name === undefined) {
      // It may have any name: as one of columns that are not known one by one.
      open = union(open ?? [], expression(value, scope, "derived", findings));
      continue;
    }
    const found = readValue(value, scope, findings);
    if (found.kind === "column") columns.push(renamed(found.column, name));
    else {
      const sources = expression(value, scope, "derived", findings);
      const relation = found.kind === "row" ? found.item.relation : null;
      columns.push({ ...computed(name, sources), origin: relation ? { oid: relation.oid, attnum: 0 } : null });
    }
  }
  // How many columns there are is not known: none can be told by its place.
  if (open === null) return { columns, open };
  for (const column of columns) findings.use(column, "derived");
  return { columns: columns.map((column) => computed(column.name, column.sources)), open };
}

function expandStar(value: Node, scope: Scope, findings: Findings): QueryResult | undefined {
  if (value.kind === "ColumnRef") {
    const fields = nodes(value.body.fields);
    if (fields.at(-1)?.kind !== "A_Star") return undefined;
    if (fields.length === 1) {
      findings.spend(widthOf({ ...scope, parent: null }));
      const columns = scope.ranges.flatMap((range) => range.columns);
      const open = scope.ranges.some((range) => range.open)
        ? union(...scope.ranges.flatMap((range) => range.items.map((item) => item.open ?? [])))
        : null;
      return { columns, open };
    }
    const item = starItem(fields, scope);
    if (item) return item;
    findings.unknownName("range", strings(value.body.fields).slice(0, -1).join("."), value.body.location);
    return { columns: [], open: [] };
  }
  if (value.kind !== "A_Indirection" || nodes(value.body.indirection).at(-1)?.kind !== "A_Star") return undefined;
  const argument = node(value.body.arg);
  const found =
    argument && nodes(value.body.indirection).length === 1 ? readValue(argument, scope, findings) : undefined;
  if (found?.kind === "row") return found.item;
  // (expression).*: the columns of a composite value, which (expression).f[i].* calls and computes before.
  return { columns: [], open: expression(value, scope, "derived", findings) };
}

/** ORDER BY, DISTINCT ON: a bare name or number is an output column first. */
function orderBy(clause: unknown, result: QueryResult, inputs: Scope | null, scope: Scope, findings: Findings): void {
  orderItems(nodes(clause), result, inputs, scope, findings);
}

function orderItems(
  items: readonly Node[],
  result: QueryResult,
  inputs: Scope | null,
  scope: Scope,
  findings: Findings,
): void {
  for (const item of items) {
    const value = item.kind === "SortBy" ? node(item.body.node) : item;
    if (item.kind === "SortBy")
      expression({ kind: "SortBy", body: { useOp: item.body.useOp } }, scope, "order", findings);
    if (value === undefined || orderOutput(value, result, findings)) continue;
    if (inputs === null) findings.incomplete.add("ORDER BY of a set operation by an expression");
    expression(value, scope, "order", findings);
  }
}

/** Uses the output column that a name or number stands for; its own sources are used, whether it is shown or not. */
function orderOutput(value: Node, result: QueryResult, findings: Findings): boolean {
  findings.spend(result.columns.length);
  const found: ScopeColumn[] = [];
  if (value.kind === "A_Const" && isBody(value.body.ival)) {
    const column = result.columns[Number(value.body.ival.ival ?? 0) - 1];
    if (column) found.push(column);
    else if (result.open === null) return false;
  } else if (value.kind === "ColumnRef") {
    const names = strings(value.body.fields);
    if (names.length === 1) found.push(...result.columns.filter((column) => column.name === names[0]));
  }
  if (result.open !== null) findings.sources(result.open, "order");
  for (const column of found) for (const source of column.sources) findings.source(source, "order");
  return found.length > 0;
}

/** GROUP BY: a bare name is an input column first, then an output column. */
function groupBy(clause: unknown, result: QueryResult, scope: Scope, findings: Findings): void {
  for (const item of nodes(clause)) {
    if (item.kind === "GroupingSet") {
      groupBy(item.body.content, result, scope, findings);
      continue;
    }
    if (item.kind === "RowExpr") {
      groupBy(item.body.args, result, scope, findings);
      continue;
    }
    const names = item.kind === "ColumnRef" ? strings(item.body.fields) : [];
    const found = names.length === 1 ? findColumn({ ...scope, parent: null }, names[0] ?? "") : undefined;
    const mayBeInput = found === undefined ? names.length > 1 : found.kind !== "absent";
    // A column of an item that is not known may not be there: then it is the output column.
    const mayBeOutput = !mayBeInput || (found?.kind === "column" && found.guessed);
    const isOutput = mayBeOutput && orderOutput(item, result, findings);
    if (isOutput && !mayBeInput) continue;
    expression(item, scope, "order", findings);
  }
}

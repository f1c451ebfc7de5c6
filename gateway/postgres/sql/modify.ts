/** INSERT, UPDATE, DELETE and MERGE: what they assign, read and return. */
import { type Body, bodyOf, type Node, node, nodes, strings, text } from "./ast.ts";
import { bounded, narrowsTo } from "./bounded.ts";
import { expression, useFunction } from "./expression.ts";
import type { Findings } from "./findings.ts";
import { fromClause, fromItem, tableItem, withClause } from "./from.ts";
import { childOf, computed, emptyResult, type Item, type QueryResult, rangeOf, type Scope } from "./scope.ts";
import { endsAtSystem } from "./system-view.ts";

export function modify(statement: Node, parent: Scope | null, findings: Findings): QueryResult {
  const { kind, body } = statement;
  const scope = childOf(parent);
  withClause(body.withClause, scope, findings);
  const target = tableItem(bodyOf(body.relation) ?? {}, findings, "write");
  notSystem(target, findings);
  switch (kind) {
    case "InsertStmt":
      insert(body, target, scope, findings);
      break;
    case "UpdateStmt":
      scope.ranges.push(rangeOf(target));
      fromClause(body.fromClause, scope, findings);
      // As PostgreSQL does: of several names that do not exist the same is told.
      where(body.whereClause, target, scope, findings);
      assignments(body.targetList, target, scope, findings);
      break;
    case "DeleteStmt":
      scope.ranges.push(rangeOf(target));
      fromClause(body.usingClause, scope, findings);
      where(body.whereClause, target, scope, findings);
      break;
    case "MergeStmt":
      merge(body, target, scope, findings);
      break;
    default:
      findings.incomplete.add(`${kind} is not understood`);
  }
  return returning(body, target, scope, findings);
}

/** pg_settings sets parameters, and a row of pg_attribute or pg_proc changes what a name means; a view hands a write on. */
export function notSystem({ relation }: Item, findings: Findings): void {
  if (relation && endsAtSystem(relation, findings.context))
    findings.incomplete.add(`a write to ${relation.schema}.${relation.name} changes more than rows`);
}

function where(clause: unknown, target: Item, scope: Scope, findings: Findings): void {
  const condition = node(clause);
  if (condition?.kind === "CurrentOfExpr")
    findings.incomplete.add("WHERE CURRENT OF depends on the position of a cursor");
  expression(condition, scope, "predicate", findings);
  // A name that is not known may be the table's: nothing runs with it, and the error is for PostgreSQL to tell.
  if (!narrowsTo(clause, target) && (clause === undefined || findings.unknown.size === 0)) findings.bounded = false;
}

function insert(body: Body, target: Item, scope: Scope, findings: Findings): void {
  const named = nodes(body.cols);
  if (named.length === 0) for (const column of target.columns) findings.use(column, "write");
  else written(named, target, scope, findings);
  const source = node(body.selectStmt);
  if (source) {
    const result = findings.parts.query(source, scope, findings);
    if (source.kind === "SelectStmt" && !bounded(source.body, scope)) findings.bounded = false;
    for (const column of result.columns) findings.use(column, "derived");
    if (result.open) findings.sources(result.open, "derived");
  }
  scope.ranges.push(rangeOf(target));
  const conflict = bodyOf(body.onConflictClause);
  if (conflict === undefined) return;
  const infer = bodyOf(conflict.infer);
  for (const { body: element } of nodes(infer?.indexElems)) {
    if (element.name !== undefined) {
      expression(columnRef(text(element.name)), scope, "predicate", findings);
    }
    expression(node(element.expr), scope, "predicate", findings);
  }
  expression(node(infer?.whereClause), scope, "predicate", findings);
  // Its columns are not known by its name: that a row has such values is told of any of them.
  if (infer?.conname !== undefined) for (const column of target.columns) findings.use(column, "predicate");
  // The row that could not be inserted: its values are the statement's own, and were counted as they came.
  const proposed = target.columns.map((column) => computed(column.name, []));
  const excluded: Item = { alias: "excluded", schema: null, relation: null, columns: proposed, open: target.open };
  const inner: Scope = { ...childOf(scope), ranges: [{ items: [excluded], columns: [], open: false }] };
  assignments(conflict.targetList, target, inner, findings);
  expression(node(conflict.whereClause), inner, "predicate", findings);
}

function columnRef(name: string): Node {
  return { kind: "ColumnRef", body: { fields: [{ String: { sval: name } }] } };
}

/** Columns that a write names. */
function written(list: readonly Node[], target: Item, scope: Scope, findings: Findings): void {
  for (const { body } of list) {
    const name = text(body.name);
    const column = target.columns.find((one) => one.name === name);
    if (column) findings.use(column, "write");
    else if (target.open === null) {
      const relation = target.relation?.name ?? target.alias;
      findings.unknownName("writtenColumn", `${name}" of relation "${relation}`, body.location);
    }
    for (const step of nodes(body.indirection)) expression(step, scope, "derived", findings);
  }
}

function assignments(list: unknown, target: Item, scope: Scope, findings: Findings): void {
  written(nodes(list), target, scope, findings);
  for (const { body } of nodes(list)) expression(node(body.val), scope, "derived", findings);
}

function merge(body: Body, target: Item, scope: Scope, findings: Findings): void {
  const source = node(body.sourceRelation);
  const range = source ? fromItem(source, scope, findings) : rangeOf({ ...target, columns: [] });
  scope.ranges.push(range, rangeOf(target));
  expression(node(body.joinCondition), scope, "predicate", findings);
  for (const { body: when } of nodes(body.mergeWhenClauses)) {
    expression(node(when.condition), scope, "predicate", findings);
    if (when.commandType === "CMD_INSERT") {
      if (when.targetList === undefined) for (const column of target.columns) findings.use(column, "write");
      written(nodes(when.targetList), target, scope, findings);
      for (const value of nodes(when.values)) expression(value, scope, "derived", findings);
    } else assignments(when.targetList, target, scope, findings);
    // What does not match touches every row there is; so does what matches by a condition on other tables alone.
    const isNarrowed = narrowsTo(body.joinCondition, target) || narrowsTo(when.condition, target);
    if (when.matchKind === "MERGE_WHEN_NOT_MATCHED_BY_SOURCE") findings.bounded = false;
    if (when.matchKind === "MERGE_WHEN_MATCHED" && !isNarrowed) findings.bounded = false;
  }
}

function returning(body: Body, target: Item, scope: Scope, findings: Findings): QueryResult {
  const clause = bodyOf(body.returningClause);
  if (clause === undefined) return emptyResult;
  const aliases = { old: "old", new: "new" };
  for (const { body: option } of nodes(clause.options)) {
    if (option.option === "RETURNING_OPTION_OLD") aliases.old = text(option.value);
    else aliases.new = text(option.value);
  }
  const taken = new Set(scope.ranges.flatMap((range) => range.items.map((item) => item.alias)));
  const rows = [aliases.old, aliases.new]
    .filter((alias) => !taken.has(alias))
    .map((alias) => ({ items: [{ ...target, alias, schema: null }], columns: [], open: false }));
  const seen: Scope = { ...scope, ranges: [...scope.ranges, ...rows] };
  return findings.parts.targets(clause.exprs, seen, findings);
}

/** CALL's procedure and its arguments. */
export function callProcedure(body: Body, findings: Findings): void {
  const call = bodyOf(body.funccall);
  const scope = childOf(null);
  useFunction(strings(call?.funcname), findings, { location: call?.location });
  for (const argument of nodes(call?.args)) expression(argument, scope, "derived", findings);
}

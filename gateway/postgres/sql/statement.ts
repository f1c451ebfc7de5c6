/** One top-level statement: what kind it is, what it uses and what rows it gives. */
import { type Body, bodyOf, constantText, type Node, node, nodes, strings, text } from "./ast.ts";
import { bounded } from "./bounded.ts";
import { control, controls, definition } from "./definition.ts";
import { expression } from "./expression.ts";
import type { Findings } from "./findings.ts";
import { tableItem } from "./from.ts";
import { innerText } from "./inner-text.ts";
import { callProcedure, modify, notSystem } from "./modify.ts";
import { creationSchema } from "./names.ts";
import { select } from "./query.ts";
import { childOf, type QueryResult } from "./scope.ts";
import { constraints, discard, setting, transaction } from "./session-statement.ts";
import { setByFunction } from "./set-config.ts";
import type { Kind } from "./statement-kind.ts";

/** Null rows: none, or not known. */
export type Judged = readonly [Kind, QueryResult | null];

const writers: Readonly<Record<string, string>> = {
  InsertStmt: "INSERT",
  UpdateStmt: "UPDATE",
  DeleteStmt: "DELETE",
  MergeStmt: "MERGE",
};
const everythingMayChange = { changesCatalog: true, changesSession: true };

/** @param outer the text of the top-level statement. */
export function judge(one: Node, outer: string, findings: Findings): Judged {
  const [kind, result] = judgeAny(one, outer, findings);
  const set = one.kind === "SelectStmt" ? setByFunction(one.body, findings) : undefined;
  return [set === undefined ? kind : { ...kind, statement: set }, result];
}

/** The statement itself, or the one in EXPLAIN, PREPARE or DECLARE. */
function judgeAny(one: Node, outer: string, findings: Findings): Judged {
  const { kind, body } = one;
  if (kind === "SelectStmt") return judgeSelect(body, findings);
  const verb = writers[kind];
  if (verb !== undefined) {
    const result = modify(one, null, findings);
    return [{ verb, class: "write" }, body.returningClause === undefined ? null : shown(result, findings)];
  }
  if (controls.has(kind)) return [control(kind, body, findings), null];
  switch (kind) {
    case "TransactionStmt":
      return [transaction(body, findings), null];
    case "VariableSetStmt":
      return [setting(body, findings), null];
    case "ConstraintsSetStmt":
      return [constraints, null];
    case "VariableShowStmt":
      return [{ verb: "SHOW", class: "session" }, null];
    case "DiscardStmt":
      return [discard(body, findings), null];
    case "ExplainStmt":
      return [explain(body, outer, findings), null];
    case "CopyStmt":
      return [copy(body, findings), null];
    case "PrepareStmt":
      return [prepare(body, outer, findings), null];
    case "ExecuteStmt":
      findings.features.add("execute");
      for (const value of nodes(body.params)) expression(value, childOf(null), "derived", findings);
      return [{ verb: "EXECUTE", class: "utility", statement: { execute: { name: text(body.name) } } }, null];
    case "DeallocateStmt": {
      const name = body.name === undefined ? null : text(body.name);
      return [{ verb: "DEALLOCATE", class: "session", statement: { deallocate: { name } } }, null];
    }
    case "DeclareCursorStmt":
      return [declare(body, outer, findings), null];
    case "FetchStmt": {
      const fetch = { name: text(body.portalname) };
      return [{ verb: body.ismove === true ? "MOVE" : "FETCH", class: "read", statement: { fetch } }, null];
    }
    case "ClosePortalStmt": {
      const name = body.portalname === undefined ? null : text(body.portalname);
      return [{ verb: "CLOSE", class: "session", statement: { close: { name } } }, null];
    }
    case "CallStmt":
      findings.features.add("call");
      callProcedure(body, findings);
      return [{ verb: "CALL", class: "write", statement: everythingMayChange }, null];
    case "DoStmt":
      findings.features.add("do");
      findings.incomplete.add("a DO block runs code that cannot be judged");
      return [{ verb: "DO", class: "write", statement: everythingMayChange }, null];
    case "ListenStmt":
      findings.features.add("listen");
      return [{ verb: "LISTEN", class: "session" }, null];
    case "UnlistenStmt":
      findings.features.add("unlisten");
      return [{ verb: "UNLISTEN", class: "session" }, null];
    case "NotifyStmt":
      findings.features.add("notify");
      return [{ verb: "NOTIFY", class: "write" }, null];
    case "LockStmt":
      findings.features.add("lock");
      for (const relation of nodes(body.relations)) tableItem(relation.body, findings, "read");
      // Whoever may not write may not keep writers out either.
      return [{ verb: "LOCK", class: "write" }, null];
    case "CheckPointStmt":
      return [{ verb: "CHECKPOINT", class: "ddl" }, null];
    case "TruncateStmt":
      for (const relation of nodes(body.relations)) tableItem(relation.body, findings, "write");
      findings.bounded = false;
      return [{ verb: "TRUNCATE", class: "write" }, null];
    case "VacuumStmt":
      findings.features.add("vacuum");
      for (const relation of nodes(body.rels)) {
        const named = bodyOf(relation.body.relation);
        if (named) tableItem(named, findings, "write");
      }
      return [{ verb: body.is_vacuumcmd === true ? "VACUUM" : "ANALYZE", class: "write" }, null];
    case "CreateTableAsStmt":
    case "ViewStmt":
      return [createAs(kind, body, findings), null];
    default:
      return [definition(kind, body, findings), null];
  }
}

function judgeSelect(body: Body, findings: Findings): Judged {
  const into = bodyOf(body.intoClause);
  const result = select(body, null, findings);
  if (!bounded(body)) findings.bounded = false;
  if (into === undefined) return [{ verb: "SELECT", class: "read", limit: limitOf(body) }, shown(result, findings)];
  consumed(result, findings);
  findings.features.add("select.into");
  created(bodyOf(into.rel), findings);
  return [{ verb: "SELECT INTO", class: "ddl" }, null];
}

/** Result columns that reach the caller: bare ones the wire can mask, all others not. */
function shown(result: QueryResult, findings: Findings): QueryResult {
  for (const column of result.columns) {
    findings.use(column, column.bare !== null && column.origin !== null ? "output" : "derived");
  }
  if (result.open) findings.sources(result.open, "derived");
  return result;
}

function consumed(result: QueryResult, findings: Findings): void {
  for (const column of result.columns) findings.use(column, "derived");
  if (result.open) findings.sources(result.open, "derived");
}

function created(rangeVar: Body | undefined, findings: Findings): void {
  if (rangeVar === undefined) return;
  findings.namedRelation(creationSchema(rangeVar, findings.context), text(rangeVar.relname), "ddl", null);
  if (rangeVar.relpersistence === "t") findings.features.add("temp");
}

function limitOf(body: Body): number | null {
  const value = bodyOf(node(body.limitCount)?.body.ival);
  return value === undefined ? null : Number(value.ival ?? 0);
}

function explain(body: Body, outer: string, findings: Findings): Kind {
  const analyze = nodes(body.options).some(
    (option) => option.body.defname === "analyze" && constantText(option.body.arg) !== "false",
  );
  findings.features.add(analyze ? "explain.analyze" : "explain");
  const inner = node(body.query);
  if (inner?.kind === "ExecuteStmt") findings.incomplete.add("EXPLAIN of a prepared statement");
  const kind = inner && judgeAny(inner, outer, findings)[0];
  // A plan shows the statement's constants and estimates, never rows: it is a read unless it runs.
  return { verb: "EXPLAIN", class: analyze ? (kind?.class ?? "utility") : "read" };
}

function prepare(body: Body, outer: string, findings: Findings): Kind {
  findings.features.add("prepare");
  const inner = node(body.query);
  const kind = inner && judgeAny(inner, outer, findings)[0];
  const found = inner && innerText(outer, "as", inner);
  if (found === undefined) findings.incomplete.add("the text of the prepared statement could not be told");
  const prepared = { name: text(body.name), text: found ?? "" };
  return { verb: "PREPARE", class: kind?.class ?? "utility", statement: { prepared } };
}

const holdOption = 32;

function declare(body: Body, outer: string, findings: Findings): Kind {
  findings.features.add("cursor");
  const inner = node(body.query);
  const kind = inner && judgeAny(inner, outer, findings)[0];
  const found = inner && innerText(outer, "for", inner);
  if (found === undefined) findings.incomplete.add("the text of the cursor's query could not be told");
  const hold = (Number(body.options ?? 0) & holdOption) !== 0;
  const cursor = { name: text(body.portalname), hold, text: found ?? "" };
  return { verb: "DECLARE", class: kind?.class ?? "read", statement: { cursor } };
}

function createAs(kind: string, body: Body, findings: Findings): Kind {
  const inner = node(body.query);
  if (inner?.kind === "SelectStmt") consumed(select(inner.body, null, findings), findings);
  else findings.incomplete.add("what is made of a prepared statement is not known");
  created(bodyOf(bodyOf(body.into)?.rel ?? body.view), findings);
  const verb = body.objtype === "OBJECT_MATVIEW" ? "CREATE MATERIALIZED VIEW" : "CREATE TABLE AS";
  return { verb: kind === "ViewStmt" ? "CREATE VIEW" : verb, class: "ddl" };
}

function copy(body: Body, findings: Findings): Kind {
  const from = body.is_from === true;
  if (body.is_program === true) findings.features.add("copy.program");
  else if (body.filename !== undefined) findings.features.add("copy.file");
  else findings.features.add(from ? "copy.from.stdin" : "copy.to.stdout");
  const inner = node(body.query);
  let writes = from;
  if (inner) {
    const result = inner.kind === "SelectStmt" ? select(inner.body, null, findings) : modify(inner, null, findings);
    if (inner.kind === "SelectStmt" && !bounded(inner.body)) findings.bounded = false;
    writes ||= inner.kind !== "SelectStmt";
    shown(result, findings);
  } else {
    const item = tableItem(bodyOf(body.relation) ?? {}, findings, from ? "write" : "read");
    if (from) notSystem(item, findings);
    const named = strings(body.attlist);
    for (const column of item.columns) {
      if (named.length === 0 || named.includes(column.name)) findings.use(column, from ? "write" : "output");
    }
    const scope = childOf(null);
    scope.ranges.push({ items: [item], columns: item.columns, open: item.open !== null });
    expression(node(body.whereClause), scope, "predicate", findings);
    if (!from) findings.bounded = false;
  }
  const stdio = body.is_program !== true && body.filename === undefined;
  return {
    verb: "COPY",
    class: writes ? "write" : "read",
    ...(stdio && {
      statement: { copy: { direction: from ? ("in" as const) : ("out" as const), header: header(body) } },
    }),
  };
}

/** Whether the first line names the columns. */
function header(body: Body): boolean {
  const option = nodes(body.options).find((one) => one.body.defname === "header");
  return option !== undefined && !/^(?:f|false|off|no?|0)$/i.test(constantText(option.body.arg) ?? "true");
}

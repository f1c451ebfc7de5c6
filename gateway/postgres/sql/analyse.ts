/**
 * A command's text as policy sees it, and as the session's machine needs it. What is not understood here is named in
 * `incomplete`, and policy denies it.
 */
import { loadModule } from "libpg-query";
import type { StatementClass, StatementInput } from "../../policy/input.ts";
import type { AnalysedCommand, AnalysedStatement } from "../analysed.ts";
import { type Body, bodyOf, constantText, contains, list, node, nodes, strings, text } from "./ast.ts";
import type { CatalogRelation, NameContext } from "./catalog.ts";
import { expression, settingFeature } from "./expression.ts";
import { Findings, type Parts, TooComplex, type ViewFacts } from "./findings.ts";
import { fingerprintOf, fingerprintOfText } from "./fingerprint.ts";
import { tableItem } from "./from.ts";
import { callProcedure, modify } from "./modify.ts";
import { type ParsedStatement, parseSql } from "./parse.ts";
import { bounded, query, select, targets } from "./query.ts";
import { childOf, type QueryResult } from "./scope.ts";

await loadModule();

type Kind = { verb: string; class: StatementClass; limit?: number | null; statement?: Partial<AnalysedStatement> };

const viewFacts = new WeakMap<object, Map<number, ViewFacts>>();

/** What a view reads, by its definition; a view inside itself is reported, not followed. */
export function factsOfView(relation: CatalogRelation, context: NameContext): ViewFacts {
  let known = viewFacts.get(context.catalog);
  if (known === undefined) {
    known = new Map();
    viewFacts.set(context.catalog, known);
  }
  const found = known.get(relation.oid);
  if (found) return found;
  const unknown: ViewFacts = {
    result: { columns: [], open: [] },
    functions: new Set(),
    incomplete: new Set([`view ${relation.schema}.${relation.name} could not be understood`]),
  };
  known.set(relation.oid, unknown);
  const parsed = relation.definition === null ? undefined : parseSql(relation.definition);
  const [statement] = parsed?.kind === "parsed" ? parsed.statements : [];
  if (statement?.kind !== "SelectStmt") return unknown;
  const findings = new Findings({ ...context, searchPath: context.catalog.searchPath }, parts);
  const result = select(statement.body, null, findings);
  const facts: ViewFacts = { result, functions: findings.functions, incomplete: findings.incomplete };
  known.set(relation.oid, facts);
  return facts;
}

const parts: Parts = { query, select, targets, view: factsOfView };

export function analyse(sql: string, context: NameContext): AnalysedCommand {
  const parsed = parseSql(sql);
  if (parsed.kind === "error") {
    const command = {
      kind: "sql" as const,
      fingerprint: fingerprintOfText(sql),
      complete: false,
      incomplete: [parsed.error.message],
      statements: [],
    };
    return freeze({ command, statements: [], error: parsed.error });
  }
  const statements: AnalysedStatement[] = [];
  const inputs: StatementInput[] = [];
  const incomplete = new Set<string>();
  for (const one of parsed.statements) {
    const findings = new Findings(context, parts);
    let kind: Kind = { verb: one.kind, class: "utility" };
    let result: QueryResult | null = null;
    try {
      [kind, result] = judge(one, sql, findings);
      findings.settle();
    } catch (error) {
      if (!(error instanceof TooComplex) && !(error instanceof RangeError)) throw error;
      findings.incomplete.add("the statement is too complex");
    }
    for (const reason of findings.incomplete) incomplete.add(reason);
    const isDdl = (findings.class ?? kind.class) === "ddl";
    inputs.push({
      verb: kind.verb,
      class: findings.class ?? kind.class,
      relations: findings.relationInputs(),
      columns: findings.columnInputs(),
      functions: [...findings.functions].sort(),
      bounded: findings.bounded,
      limit: kind.limit ?? null,
      features: [...findings.features].sort(),
    });
    statements.push({
      outputColumns: outputs(result, context),
      ...kind.statement,
      changesCatalog: findings.changesCatalog || isDdl || kind.statement?.changesCatalog === true,
      changesSession: findings.changesSession || kind.statement?.changesSession === true,
    });
  }
  const command = {
    kind: "sql" as const,
    fingerprint: fingerprintOf(parsed.statements),
    complete: incomplete.size === 0,
    incomplete: [...incomplete].sort(),
    statements: inputs,
  };
  return freeze({ command, statements });
}

function outputs(result: QueryResult | null, context: NameContext): AnalysedStatement["outputColumns"] {
  if (result === null || result.open !== null) return null;
  return result.columns.map(({ origin }) => {
    if (origin === null) return { oid: 0, attnum: 0, column: null };
    const relation = context.catalog.relationByOid(origin.oid);
    const column = relation?.columns.find(({ attnum }) => attnum === origin.attnum);
    return { ...origin, column: relation && column ? `${relation.schema}.${relation.name}.${column.name}` : null };
  });
}

/** Result columns that reach the caller: bare ones the wire can mask, all others not. */
function shown(result: QueryResult, findings: Findings): QueryResult {
  for (const column of result.columns)
    findings.use(column, column.bare !== null && column.origin !== null ? "output" : "derived");
  if (result.open) findings.sources(result.open, "derived");
  return result;
}

function consumed(result: QueryResult, findings: Findings): void {
  for (const column of result.columns) findings.use(column, "derived");
  if (result.open) findings.sources(result.open, "derived");
}

function limitOf(body: Body): number | null {
  const value = bodyOf(node(body.limitCount)?.body.ival);
  return value === undefined ? null : Number(value.ival ?? 0);
}

const writers: Readonly<Record<string, string>> = {
  InsertStmt: "INSERT",
  UpdateStmt: "UPDATE",
  DeleteStmt: "DELETE",
  MergeStmt: "MERGE",
};

function judge(one: ParsedStatement, sql: string, findings: Findings): [Kind, QueryResult | null] {
  const { kind, body } = one;
  if (kind === "SelectStmt") {
    const into = bodyOf(body.intoClause);
    const result = select(body, null, findings);
    findings.bounded = bounded(body);
    if (into === undefined) return [{ verb: "SELECT", class: "read", limit: limitOf(body) }, shown(result, findings)];
    consumed(result, findings);
    findings.features.add("select.into");
    return [{ verb: "SELECT INTO", class: "ddl" }, null];
  }
  const verb = writers[kind];
  if (verb !== undefined) {
    const result = modify(one, null, findings);
    return [{ verb, class: "write" }, body.returningClause === undefined ? null : shown(result, findings)];
  }
  switch (kind) {
    case "TransactionStmt":
      return [transaction(body, findings), null];
    case "VariableSetStmt":
      return [setting(body, findings), null];
    case "VariableShowStmt":
      return [{ verb: "SHOW", class: "session" }, null];
    case "DiscardStmt":
      findings.features.add("discard");
      return [
        {
          verb: "DISCARD",
          class: "session",
          statement: { changesCatalog: true, changesSession: true, deallocate: { name: null } },
        },
        null,
      ];
    case "ExplainStmt": {
      const analyze = nodes(body.options).some(
        (option) => option.body.defname === "analyze" && constantText(option.body.arg) !== "false",
      );
      const inner = node(body.query);
      if (inner === undefined) return [{ verb: "EXPLAIN", class: "utility" }, null];
      const [innerKind] = judge({ ...inner, start: one.start, length: one.length }, sql, findings);
      findings.features.add(analyze ? "explain.analyze" : "explain");
      // A plan shows the statement's constants and estimates, never rows: it is a read unless it runs.
      return [{ verb: "EXPLAIN", class: analyze ? innerKind.class : "read" }, null];
    }
    case "CopyStmt":
      return [copy(body, findings), null];
    case "PrepareStmt": {
      const inner = node(body.query);
      const queryText = textAfter(one, sql, /^[\s\S]*?\bAS\b/i);
      findings.features.add("prepare");
      const [innerKind] = inner
        ? judge({ ...inner, start: one.start, length: one.length }, sql, findings)
        : [{ verb: "", class: "utility" as const }];
      return [
        {
          verb: "PREPARE",
          class: innerKind.class,
          statement: { prepared: { name: text(body.name), text: queryText } },
        },
        null,
      ];
    }
    case "ExecuteStmt":
      findings.features.add("execute");
      for (const value of nodes(body.params)) expression(value, childOf(null), "derived", findings);
      return [{ verb: "EXECUTE", class: "utility", statement: { execute: { name: text(body.name) } } }, null];
    case "DeallocateStmt":
      return [
        {
          verb: "DEALLOCATE",
          class: "session",
          statement: { deallocate: { name: body.name === undefined ? null : text(body.name) } },
        },
        null,
      ];
    case "DeclareCursorStmt": {
      const inner = node(body.query);
      findings.features.add("cursor");
      if (inner) judge({ ...inner, start: one.start, length: one.length }, sql, findings);
      const cursor = {
        name: text(body.portalname),
        hold: (Number(body.options ?? 0) & 32) !== 0,
        text: textAfter(one, sql, /^[\s\S]*?\bFOR\b/i),
      };
      return [{ verb: "DECLARE", class: "read", statement: { cursor } }, null];
    }
    case "FetchStmt":
      return [
        {
          verb: body.ismove === true ? "MOVE" : "FETCH",
          class: "read",
          statement: { fetch: { name: text(body.portalname) } },
        },
        null,
      ];
    case "ClosePortalStmt":
      return [{ verb: "CLOSE", class: "session" }, null];
    case "CallStmt":
      findings.features.add("call");
      callProcedure(body, findings);
      return [{ verb: "CALL", class: "write", statement: { changesCatalog: true, changesSession: true } }, null];
    case "DoStmt":
      findings.features.add("do");
      findings.incomplete.add("a DO block runs code that cannot be judged");
      return [{ verb: "DO", class: "write", statement: { changesCatalog: true, changesSession: true } }, null];
    case "ListenStmt":
    case "UnlistenStmt":
      findings.features.add("listen");
      return [{ verb: kind === "ListenStmt" ? "LISTEN" : "UNLISTEN", class: "session" }, null];
    case "NotifyStmt":
      findings.features.add("notify");
      return [{ verb: "NOTIFY", class: "write" }, null];
    case "LockStmt":
      findings.features.add("lock");
      for (const relation of nodes(body.relations)) tableItem(relation.body, findings, "read");
      return [{ verb: "LOCK", class: "utility" }, null];
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
      return [{ verb: body.is_vacuumcmd === true ? "VACUUM" : "ANALYZE", class: "utility" }, null];
    case "CreateTableAsStmt":
    case "ViewStmt": {
      const inner = node(body.query);
      if (inner?.kind === "SelectStmt") consumed(select(inner.body, null, findings), findings);
      else findings.incomplete.add(`${kind} of another statement`);
      if (
        contains(body, new Set(["RangeVar"])) &&
        JSON.stringify(bodyOf(body.into) ?? body.view ?? {}).includes('"relpersistence":"t"')
      ) {
        findings.features.add("temp");
      }
      return [{ verb: kind === "ViewStmt" ? "CREATE VIEW" : "CREATE TABLE AS", class: "ddl" }, null];
    }
    case "GrantStmt":
    case "GrantRoleStmt":
    case "AlterDefaultPrivilegesStmt":
    case "CreateRoleStmt":
    case "AlterRoleStmt":
    case "AlterRoleSetStmt":
    case "DropRoleStmt":
    case "ReassignOwnedStmt":
    case "DropOwnedStmt":
    case "AlterOwnerStmt":
      if (kind === "CreateRoleStmt" || kind.startsWith("AlterRole")) findings.features.add("alter.role");
      return [{ verb: kind.replace(/Stmt$/, "").toUpperCase(), class: "dcl" }, null];
    case "AlterSystemStmt":
      findings.features.add("alter.system");
      return [{ verb: "ALTER SYSTEM", class: "dcl" }, null];
    case "LoadStmt":
      findings.features.add("load");
      return [{ verb: "LOAD", class: "dcl" }, null];
    default:
      return [definition(kind, body, findings), null];
  }
}

/** DDL of tables is understood as far as its relations; expressions inside it that read data are not. */
const plainDefinitions = new Set([
  "CreateStmt",
  "AlterTableStmt",
  "DropStmt",
  "RenameStmt",
  "IndexStmt",
  "CreateSchemaStmt",
  "CreateSeqStmt",
  "AlterSeqStmt",
  "CommentStmt",
  "CreateEnumStmt",
  "CreateDomainStmt",
]);
const runsLater = new Set(["CreateFunctionStmt", "CreateTrigStmt", "RuleStmt", "CreateExtensionStmt"]);
const featuresOf: Readonly<Record<string, string>> = {
  CreateFunctionStmt: "create.function",
  CreateTrigStmt: "create.trigger",
  RuleStmt: "create.rule",
  CreateExtensionStmt: "create.extension",
  RefreshMatViewStmt: "refresh",
};

function definition(kind: string, body: Body, findings: Findings): Kind {
  const feature = featuresOf[kind];
  if (feature) findings.features.add(feature);
  if (runsLater.has(kind)) findings.incomplete.add("what it defines runs later, where it cannot be judged");
  if (!plainDefinitions.has(kind) && !feature)
    findings.incomplete.add(`${kind.replace(/Stmt$/, "")} is not understood`);
  const relation = bodyOf(body.relation);
  if (relation && kind !== "CreateStmt" && kind !== "CreateSeqStmt") tableItem(relation, findings, "ddl");
  else if (relation) findings.namedRelation(text(relation.schemaname), text(relation.relname), "ddl", null);
  if (kind === "DropStmt") {
    for (const object of list(body.objects)) {
      const names = strings(bodyOf(object)?.List ? bodyOf(bodyOf(object)?.List)?.items : object);
      const name = names.at(-1);
      if (name !== undefined) findings.namedRelation(names.at(-2) ?? "", name, "ddl", null);
    }
  }
  if (relation?.relpersistence === "t") findings.features.add("temp");
  return {
    verb: kind
      .replace(/Stmt$/, "")
      .replace(/([a-z])([A-Z])/g, "$1 $2")
      .toUpperCase(),
    class: "ddl",
  };
}

function transaction(body: Body, findings: Findings): Kind {
  const what = text(body.kind).replace("TRANS_STMT_", "").toLowerCase();
  if (/prepare|commit_prepared|rollback_prepared/.test(what)) findings.features.add("two_phase");
  // What is rolled back may have been DDL or SET.
  const undone = what.startsWith("rollback");
  return {
    verb: what.replaceAll("_", " ").toUpperCase(),
    class: "transaction",
    statement: { transaction: what, changesCatalog: undone, changesSession: undone },
  };
}

function setting(body: Body, findings: Findings): Kind {
  const name = text(body.name).toLowerCase();
  const what = text(body.kind);
  if (what === "VAR_RESET_ALL") {
    findings.features.add("reset.all");
    return { verb: "RESET", class: "session", statement: { changesSession: true } };
  }
  if (what === "VAR_RESET") findings.features.add(`reset:${name}`);
  if (name === "transaction" || name.startsWith("session characteristics")) return { verb: "SET", class: "session" };
  settingFeature(name, findings);
  const [first] = nodes(body.args);
  const value = first ? (constantText({ [first.kind]: first.body }) ?? null) : null;
  return {
    verb: what === "VAR_RESET" ? "RESET" : "SET",
    class: "session",
    statement: { setting: { name, value }, changesSession: !name.startsWith("sallyport.") },
  };
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
    writes ||= inner.kind !== "SelectStmt";
    shown(result, findings);
  } else {
    const item = tableItem(bodyOf(body.relation) ?? {}, findings, from ? "write" : "read");
    const named = strings(body.attlist);
    for (const column of item.columns) {
      if (named.length === 0 || named.includes(column.name)) findings.use(column, from ? "write" : "output");
    }
    if (body.whereClause !== undefined) findings.incomplete.add("COPY with WHERE");
  }
  const stdio = body.is_program !== true && body.filename === undefined;
  return {
    verb: "COPY",
    class: writes ? "write" : "read",
    ...(stdio && { statement: { copy: { direction: from ? ("in" as const) : ("out" as const) } } }),
  };
}

/** The statement inside PREPARE … AS and DECLARE … FOR, as it is written. */
function textAfter(one: ParsedStatement, sql: string, head: RegExp): string {
  return sql
    .slice(one.start, one.start + one.length)
    .replace(head, "")
    .trim();
}

function freeze(analysed: AnalysedCommand): AnalysedCommand {
  const deep = (value: unknown): void => {
    if (typeof value !== "object" || value === null || Object.isFrozen(value)) return;
    Object.freeze(value);
    for (const one of Object.values(value)) deep(one);
  };
  deep(analysed);
  return analysed;
}

/** Expressions: which columns, functions and operators they use. What is not known here makes the analysis incomplete. */
import type { ColumnUse } from "../../policy/input.ts";
import { type Body, bodyOf, constantText, type Node, node, nodes, strings, text } from "./ast.ts";
import { columnName } from "./column-name.ts";
import type { Findings } from "./findings.ts";
import { findFunctions, namesType, plainTypeOid, useOperator, useOperatorNamed } from "./names.ts";
import {
  type BaseColumn,
  childOf,
  columnIn,
  findColumn,
  findItem,
  type Item,
  reference,
  type Scope,
  type ScopeColumn,
  union,
  widthOf,
} from "./scope.ts";
import { decidesNames, localSetting, settingFeature } from "./settings.ts";

export type Value =
  | { readonly kind: "column"; readonly column: ScopeColumn }
  | { readonly kind: "row"; readonly item: Item }
  /** alias.name where the item has no such column: the function of that name, applied to the row. */
  | { readonly kind: "call"; readonly item: Item; readonly name: string }
  | { readonly kind: "expression" }
  | { readonly kind: "unknown"; readonly name: string };

const other: Value = { kind: "expression" };

/** What a node is when it is more than a computation: a column or row itself, in any of SQL's spellings. */
export function readValue(one: Node, scope: Scope, findings: Findings): Value {
  const { kind, body } = one;
  if (kind === "ColumnRef") return columnReference(strings(body.fields), scope, findings);
  if (kind === "A_Indirection") {
    const path = nodes(body.indirection);
    const argument = node(body.arg);
    if (path.length !== 1 || path[0]?.kind !== "String" || argument === undefined) return other;
    return field(readValue(argument, scope, findings), strings(body.indirection)[0] ?? "", findings);
  }
  if (kind === "FuncCall") {
    // ssn(p) is p.ssn where no function or type of that name is there.
    const names = strings(body.funcname);
    const args = nodes(body.args);
    const [argument] = args;
    if (names.length !== 1 || args.length !== 1 || argument?.kind !== "ColumnRef") return other;
    if (body.over !== undefined || body.agg_star !== undefined || body.agg_filter !== undefined) return other;
    if (body.agg_order !== undefined || body.agg_distinct !== undefined || body.func_variadic !== undefined)
      return other;
    if (findFunctions(names, findings.context).length > 0 || namesType(names, findings.context)) return other;
    const value = readValue(argument, scope, findings);
    if (value.kind !== "row") return other;
    const projected = field(value, names[0] ?? "", findings);
    return projected.kind === "column" ? projected : other;
  }
  if (kind === "TypeCast") {
    const argument = node(body.arg);
    const value = argument && readValue(argument, scope, findings);
    if (value?.kind !== "column" || value.column.bare === null) return other;
    const type = plainTypeOid(bodyOf(body.typeName), findings.context);
    const { typeOid, typeModifier } = value.column.bare.column;
    return type !== undefined && type === typeOid && typeModifier === -1 ? value : other;
  }
  return other;
}

function field(value: Value, name: string, findings: Findings): Value {
  if (value.kind !== "row") return other;
  const found = columnIn(value.item, name);
  if (found.kind === "ambiguous") return { kind: "unknown", name };
  // An item whose columns are not known may have it as a column, or the name is a function's.
  const asCall = found.kind === "absent" || (found.guessed && findFunctions([name], findings.context).length > 0);
  return asCall ? { kind: "call", item: value.item, name } : { kind: "column", column: found.column };
}

function columnReference(fields: readonly string[], scope: Scope, findings: Findings): Value {
  findings.spend(widthOf(scope));
  const name = fields.at(-1) ?? "";
  const unknown: Value = { kind: "unknown", name: fields.join(".") };
  if (fields.length === 1) {
    const found = findColumn(scope, name);
    if (found.kind === "ambiguous") return unknown;
    if (found.kind === "column" && !found.guessed) return { kind: "column", column: found.column };
    // It may be a column of an item that is not known, one of a query around, or the row of that name: all of them.
    const item = findItem(scope, null, name);
    if (item === "ambiguous") return unknown;
    if (item) {
      const sources = found.kind === "column" ? found.column.sources : [];
      return { kind: "row", item: sources.length === 0 ? item : { ...item, open: union(item.open ?? [], sources) } };
    }
    return found.kind === "column" ? { kind: "column", column: found.column } : unknown;
  }
  // a.b, schema.a.b or database.schema.a.b; PostgreSQL refuses another database than its own.
  const item = findItem(scope, fields.length > 2 ? (fields.at(-3) ?? "") : null, fields.at(-2) ?? "");
  if (item === undefined || item === "ambiguous") return unknown;
  return field({ kind: "row", item }, name, findings);
}

/** The item that `alias.*` names. */
export function starItem(fields: readonly Node[], scope: Scope): Item | undefined {
  const names = fields.slice(0, -1).map(({ body }) => String(body.sval ?? ""));
  const item = findItem(scope, names.length > 1 ? (names.at(-2) ?? "") : null, names.at(-1) ?? "");
  return item === "ambiguous" ? undefined : item;
}

/** Nodes that use what their parts use, and nothing else. */
const plain = new Set([
  "A_Expr",
  "BoolExpr",
  "NullTest",
  "BooleanTest",
  "CaseExpr",
  "CaseWhen",
  "CoalesceExpr",
  "MinMaxExpr",
  "A_ArrayExpr",
  "RowExpr",
  "List",
  "A_Indirection",
  "A_Indices",
  "CollateClause",
  "TypeCast",
  "NamedArgExpr",
  "MultiAssignRef",
  "GroupingFunc",
  "GroupingSet",
  "MergeSupportFunc",
  "XmlExpr",
  "XmlSerialize",
  "JsonObjectConstructor",
  "JsonArrayConstructor",
  "JsonKeyValue",
  "JsonValueExpr",
  "JsonIsPredicate",
  "JsonParseExpr",
  "JsonScalarExpr",
  "JsonSerializeExpr",
  "JsonFuncExpr",
  "JsonArgument",
  "JsonBehavior",
  "JsonObjectAgg",
  "JsonArrayAgg",
  "JsonOutput",
  "JsonReturning",
  "JsonFormat",
  "ResTarget",
]);
const leaves = new Set([
  "A_Const",
  "ParamRef",
  "SQLValueFunction",
  "SetToDefault",
  "CurrentOfExpr",
  "String",
  "Integer",
  "Float",
  "Boolean",
  "A_Star",
  "TypeName",
]);

export function expression(
  one: Node | undefined,
  scope: Scope,
  use: ColumnUse,
  findings: Findings,
): readonly BaseColumn[] {
  if (one === undefined || leaves.has(one.kind)) return [];
  findings.visited();
  findings.usesNames = true;
  const { kind, body } = one;
  if (kind === "ColumnRef" && nodes(body.fields).at(-1)?.kind === "A_Star")
    return star(nodes(body.fields), scope, use, findings);
  const value = readValue(one, scope, findings);
  switch (value.kind) {
    case "column":
      return findings.use(value.column, use === "output" ? "derived" : use);
    case "row":
      return findings.wholeRow(value.item, use);
    case "call":
      if (findFunctions([value.name], findings.context).length > 0) useFunction([value.name], findings);
      else findings.unknownName("columnOfItem", `${value.item.alias}.${value.name}`, body.location);
      return findings.wholeRow(value.item, use);
    case "unknown":
      findings.unknownName("column", value.name, body.location);
      return [];
    case "expression":
      break;
  }
  if (kind === "FuncCall") return call(one, scope, use, findings);
  if (kind === "SubLink") return sublink(one, scope, use, findings);
  if (kind === "SortBy") {
    useOperator(body.useOp, findings);
    return expression(node(body.node), scope, use, findings);
  }
  if (newestKeywords.test(kind)) usersOwn(columnName(one) ?? "", findings);
  if (!plain.has(kind)) findings.incomplete.add(`an expression (${kind}) is not understood`);
  expressionOperators(one, findings);
  if (kind === "JsonObjectAgg" || kind === "JsonArrayAgg") return jsonAggregate(body, scope, use, findings);
  if (kind === "A_Indirection") {
    // (value).name is a field of it, or a call of the function of that name.
    for (const name of strings(body.indirection)) useField(name, findings);
  }
  return parts(body, scope, use, findings);
}

/** A field of a value, or a call of the function of that name. */
export function useField(name: string, findings: Findings): void {
  if (findFunctions([name], findings.context).length > 0) useFunction([name], findings);
}

/** Nodes of the grammar's newest version: an older server takes the word for a function's name. */
const newestKeywords =
  /^(?:Json(?:Object|Array)(?:Constructor|Agg|QueryConstructor)|Json(?:Scalar|Serialize|Parse|Func)Expr|MergeSupportFunc)$/;

/** What a word may call of users' where the server's grammar does not have it. */
function usersOwn(name: string, findings: Findings): void {
  for (const full of findFunctions([name], findings.context)) {
    if (!full.startsWith("pg_catalog.") || findings.context.catalog.isAddedFunction(full)) findings.calls(full);
  }
}

/** Those of the node itself. */
export function expressionOperators({ kind, body }: Node, findings: Findings): void {
  if (kind === "CaseExpr" && body.arg !== undefined) useOperatorNamed(["="], findings);
  if (kind !== "A_Expr") return;
  useOperator(body.name, findings);
  if (String(body.kind).includes("BETWEEN")) {
    for (const name of ["<", "<=", ">", ">="]) useOperatorNamed([name], findings);
  }
}

/** Everything below that is a node; fields of a fixed type (over, JSON's parts) come without their kind. */
function parts(value: unknown, scope: Scope, use: ColumnUse, findings: Findings): BaseColumn[] {
  const all: (readonly BaseColumn[])[] = [];
  const walk = (inner: unknown, field: string): void => {
    if (Array.isArray(inner)) {
      for (const item of inner) walk(item, field);
      return;
    }
    const body = bodyOf(inner);
    if (body === undefined || field === "typeName" || field === "type_name") return;
    const one = node(body);
    if (one !== undefined && /^[A-Z]/.test(one.kind)) all.push(expression(one, scope, use, findings));
    else for (const name in body) walk(body[name], name);
  };
  const body = bodyOf(value) ?? {};
  for (const name in body) walk(body[name], name);
  return union(...all);
}

function star(fields: readonly Node[], scope: Scope, use: ColumnUse, findings: Findings): readonly BaseColumn[] {
  const item = fields.length > 1 ? starItem(fields, scope) : undefined;
  if (item) return findings.wholeRow(item, use);
  findings.incomplete.add("a * is where it is not understood");
  return [];
}

/** Functions that run SQL text or read relations by name: what they touch cannot be told. */
const dynamic =
  /^(?:(?:query|table|schema|database|cursor)_to_xml|(?:query|table|schema|database)_to_xmlschema|(?:query|table|schema|database)_to_xml_and_xmlschema|cursor_to_xmlschema|ts_stat|ts_rewrite|currtid2|binary_upgrade_.*|lo_.*|loread|lowrite|pg_logical_slot_.*|pg_read_.*|pg_ls_.*|pg_stat_file)$/;

export function useFunction(
  names: readonly string[],
  findings: Findings,
  { sqlSyntax = false, location }: { readonly sqlSyntax?: boolean; readonly location?: unknown } = {},
): void {
  const found = findFunctions(names, findings.context);
  for (const name of found) {
    findings.calls(name);
    if (name.startsWith("pg_catalog.") && dynamic.test(name.slice("pg_catalog.".length))) {
      findings.features.add("function.dynamic");
      findings.incomplete.add(`${name} reaches data by name or text`);
    }
  }
  if (found.length > 0) return;
  findings.calls(names.join("."));
  // What SQL's own syntax stands for need not have that name in an older server. Any other has no such syntax there
  // (SYSTEM_USER), and takes the word for a name.
  if (sqlSyntax && names.at(-1) === "extract") return;
  findings.unknownName("function", names.join("."), location);
}

function call({ body }: Node, scope: Scope, use: ColumnUse, findings: Findings): readonly BaseColumn[] {
  const names = strings(body.funcname);
  const sqlSyntax = body.funcformat === "COERCE_SQL_SYNTAX" && names[0] === "pg_catalog";
  if (namesType(names, findings.context) && findFunctions(names, findings.context).length === 0)
    findings.incomplete.add(`a call of the type "${names.join(".")}" is a cast: write it as CAST or with ::`);
  else useFunction(names, findings, { sqlSyntax, location: body.location });
  // json_object(a, b) is a word of the newest grammar as well, which gives it this name itself.
  if (names.join(".") === "pg_catalog.json_object") usersOwn("json_object", findings);
  if (names.at(-1) === "set_config") setConfig(nodes(body.args), findings);
  const inner = use === "output" ? "derived" : use;
  const all = [...nodes(body.args), ...nodes(body.agg_order)].map((argument) =>
    expression(argument, scope, inner, findings),
  );
  for (const order of nodes(body.agg_order)) expression(order, scope, "order", findings);
  if (body.agg_distinct === true)
    for (const argument of nodes(body.args)) expression(argument, scope, "order", findings);
  const filter = expression(node(body.agg_filter), scope, "predicate", findings);
  return union(...all, filter, window(bodyOf(body.over), scope, findings));
}

function jsonAggregate(body: Body, scope: Scope, use: ColumnUse, findings: Findings): readonly BaseColumn[] {
  const { constructor: aggregate, ...rest } = body;
  const { agg_order: orders, agg_filter: condition, over, ...output } = bodyOf(aggregate) ?? {};
  for (const order of nodes(orders)) expression(order, scope, "order", findings);
  const filter = expression(node(condition), scope, "predicate", findings);
  const used = parts({ rest, output, orders }, scope, use, findings);
  return union(used, filter, window(bodyOf(over), scope, findings));
}

/** PARTITION BY, ORDER BY and the frame of a window. */
export function window(over: ReturnType<typeof bodyOf>, scope: Scope, findings: Findings): readonly BaseColumn[] {
  if (over === undefined) return [];
  // OVER w has its name, OVER (w …) and WINDOW v AS (w …) the name of what they go on from.
  findings.visited();
  const called = scope.windows?.get(text(over.name));
  const definition = called === undefined || called === over ? scope.windows?.get(text(over.refname)) : called;
  const named = definition === undefined || definition === over ? [] : window(definition, scope, findings);
  const found = [...nodes(over.partitionClause), ...nodes(over.orderClause)].map((one) =>
    expression(one, scope, "order", findings),
  );
  for (const offset of [node(over.startOffset), node(over.endOffset)])
    found.push(expression(offset, scope, "derived", findings));
  return union(named, ...found);
}

function setConfig(args: readonly Node[], findings: Findings): void {
  const [first, , local] = args;
  const constant = first && constantText({ [first.kind]: first.body });
  if (constant === undefined) {
    findings.changesSession = true;
    findings.features.add("function.dynamic");
    findings.incomplete.add("set_config sets a parameter that is not a constant");
    return;
  }
  settingFeature(constant, findings);
  if (decidesNames(constant)) findings.changesSession = true;
  if (local === undefined || constantText({ [local.kind]: local.body }) !== "false") localSetting(constant, findings);
}

function sublink({ body }: Node, scope: Scope, use: ColumnUse, findings: Findings): readonly BaseColumn[] {
  const effective = use === "output" ? "derived" : use;
  const test = expression(node(body.testexpr), scope, effective, findings);
  if (body.operName !== undefined) useOperator(body.operName, findings);
  else if (body.testexpr !== undefined) useOperatorNamed(["="], findings);
  const query = node(body.subselect);
  if (query === undefined) return test;
  const [result, used] = findings.observed(() => findings.parts.query(query, childOf(scope), findings));
  if (body.subLinkType === "EXISTS_SUBLINK") {
    // EXISTS evaluates no column of its query; what its conditions use decides it all the same.
    for (const column of result.columns) reference(column);
    return used;
  }
  const all = result.columns.map((column) => findings.use(column, effective));
  if (result.open) all.push(result.open);
  return union(test, used, ...all);
}

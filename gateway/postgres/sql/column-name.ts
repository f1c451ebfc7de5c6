/**
 * The name PostgreSQL gives a result column that has none (FigureColname in parse_target.c): what another query around
 * it can mean by a name depends on it.
 */
import { bodyOf, type Node, node, nodes, strings, text } from "./ast.ts";

interface Figured {
  readonly name: string;
  /** A weak one gives way to that of a cast or CASE around it. */
  readonly strong: boolean;
}

const strong = (name: string): Figured => ({ name, strong: true });
const weak = (name: string): Figured => ({ name, strong: false });

/** It depends on columns that are not looked up here. */
const unknown = Symbol("unknown");

/** @returns undefined where it cannot be told */
export function columnName(value: Node): string | undefined {
  const figured = figure(value);
  return figured === unknown ? undefined : (figured?.name ?? "?column?");
}

const fixedNames: Readonly<Record<string, string>> = {
  CoalesceExpr: "coalesce",
  A_ArrayExpr: "array",
  RowExpr: "row",
  GroupingFunc: "grouping",
  MergeSupportFunc: "merge_action",
  XmlSerialize: "xmlserialize",
  JsonObjectConstructor: "json_object",
  JsonArrayConstructor: "json_array",
  JsonArrayQueryConstructor: "json_array",
  JsonScalarExpr: "json_scalar",
  JsonSerializeExpr: "json_serialize",
  JsonParseExpr: "json",
  JsonObjectAgg: "json_objectagg",
  JsonArrayAgg: "json_arrayagg",
};

function figure(value: Node | undefined): Figured | typeof unknown | undefined {
  if (value === undefined) return undefined;
  const { kind, body } = value;
  switch (kind) {
    case "ColumnRef":
      return lastName(body.fields);
    case "A_Indirection":
      return lastName(body.indirection) ?? figure(node(body.arg));
    case "FuncCall":
      return lastName(body.funcname);
    case "A_Expr":
      return body.kind === "AEXPR_NULLIF" ? strong("nullif") : undefined;
    case "TypeCast":
      return unlessStrong(figure(node(body.arg)), strings(bodyOf(body.typeName)?.names).at(-1) ?? "");
    case "CollateClause":
      return figure(node(body.arg));
    case "CaseExpr":
      return unlessStrong(figure(node(body.defresult)), "case");
    case "MinMaxExpr":
      return strong(body.op === "IS_LEAST" ? "least" : "greatest");
    case "SQLValueFunction":
      return strong(
        text(body.op)
          .replace(/^SVFOP_/, "")
          .replace(/_N$/, "")
          .toLowerCase(),
      );
    case "XmlExpr":
      return body.op === "IS_DOCUMENT" ? undefined : strong(text(body.op).replace(/^IS_/, "").toLowerCase());
    case "JsonFuncExpr":
      return strong(text(body.op).replace(/_OP$/, "").toLowerCase());
    case "SubLink":
      return sublink(text(body.subLinkType), node(body.subselect));
    default: {
      const fixed = fixedNames[kind];
      return fixed === undefined ? undefined : strong(fixed);
    }
  }
}

function unlessStrong(inner: ReturnType<typeof figure>, own: string): ReturnType<typeof figure> {
  return inner === unknown || inner?.strong === true ? inner : weak(own);
}

function lastName(list: unknown): Figured | undefined {
  const name = nodes(list).findLast(({ kind }) => kind === "String");
  return name && strong(text(name.body.sval));
}

function sublink(type: string, query: Node | undefined): ReturnType<typeof figure> {
  if (type === "EXISTS_SUBLINK") return strong("exists");
  if (type === "ARRAY_SUBLINK") return strong("array");
  return type === "EXPR_SUBLINK" ? firstColumn(query) : undefined;
}

/** A subquery gives the name of its only column, one of "?column?" too. */
function firstColumn(query: Node | undefined): ReturnType<typeof figure> {
  let body = query?.body ?? {};
  for (let left = bodyOf(body.larg); left !== undefined; left = bodyOf(body.larg)) body = left;
  if (body.valuesLists !== undefined) return strong("column1");
  const target = nodes(body.targetList)[0];
  if (target === undefined) return unknown;
  if (target.body.name !== undefined) return strong(text(target.body.name));
  const value = node(target.body.val);
  const ends = value?.kind === "ColumnRef" ? value.body.fields : value?.body.indirection;
  if (nodes(ends).at(-1)?.kind === "A_Star") return unknown;
  const figured = figure(value);
  return figured === unknown ? unknown : strong(figured?.name ?? "?column?");
}

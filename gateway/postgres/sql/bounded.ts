/** Whether a statement is narrowed by conditions on columns, or touches all there is. */
import { type Body, bodyOf, contains, type Node, node, nodes } from "./ast.ts";

const columnReferences = new Set(["ColumnRef"]);

/** Whether a WHERE narrows by a column. */
export function narrows(where: unknown): boolean {
  return where !== undefined && contains(where, columnReferences);
}

/** Whether every relation a SELECT reads is narrowed by a WHERE. */
export function bounded(body: Body): boolean {
  if (body.op !== undefined && body.op !== "SETOP_NONE") {
    return bounded(bodyOf(body.larg) ?? {}) && bounded(bodyOf(body.rarg) ?? {});
  }
  if (narrows(body.whereClause)) return true;
  return nodes(body.fromClause).every(boundedItem);
}

function boundedItem({ kind, body }: Node): boolean {
  if (kind === "RangeSubselect") return bounded(node(body.subquery)?.body ?? {});
  if (kind === "JoinExpr")
    return [node(body.larg), node(body.rarg)].every((side) => side === undefined || boundedItem(side));
  return kind === "RangeFunction" || kind === "RangeTableFunc" || kind === "JsonTable";
}

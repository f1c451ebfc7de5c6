/** Whether a statement is narrowed by conditions on columns, or touches all there is. */
import { type Body, bodyOf, contains, isBody, type Node, node, nodes, strings, text, visit } from "./ast.ts";
import type { Item } from "./scope.ts";

const columnReferences = new Set(["ColumnRef"]);

/** Whether a WHERE narrows by a column. */
function narrows(where: unknown): boolean {
  return where !== undefined && contains(where, columnReferences);
}

/**
 * Whether a write's condition narrows the rows of its own table: by one of what AND joins, by each of what OR does. A
 * condition on other tables alone, or on constants, touches every row where it holds.
 */
export function narrowsTo(where: unknown, target: Item): boolean {
  const condition = node(where);
  if (condition === undefined) return false;
  const { kind, body } = condition;
  if (kind === "BoolExpr" && body.boolop === "AND_EXPR")
    return nodes(body.args).some((one) => narrowsTo(wrapped(one), target));
  if (kind === "BoolExpr" && body.boolop === "OR_EXPR")
    return nodes(body.args).every((one) => narrowsTo(wrapped(one), target));
  return mentions(wrapped(condition), target, false);
}

const wrapped = ({ kind, body }: Node) => ({ [kind]: body });
const rowPlaces = new Set(["ctid", "xmin", "xmax", "cmin", "cmax"]);

/** @param inner of a subquery, where a name without its table could be the subquery's own */
function mentions(value: unknown, target: Item, inner: boolean): boolean {
  if (Array.isArray(value)) return value.some((one) => mentions(one, target, inner));
  if (!isBody(value)) return false;
  const column = bodyOf(value.ColumnRef);
  if (column) return isOf(strings(column.fields), target, inner);
  const sublink = bodyOf(value.SubLink);
  if (sublink) {
    if (mentions(sublink.testexpr, target, inner)) return true;
    return !namesTable(sublink.subselect, target.alias) && mentions(sublink.subselect, target, true);
  }
  return Object.values(value).some((one) => mentions(one, target, inner));
}

function isOf(names: readonly string[], { alias, columns, open }: Item, inner: boolean): boolean {
  const name = names.at(-1) ?? "";
  if (names.length > 1) return names.at(-2) === alias;
  if (inner) return false;
  return open !== null || name === alias || rowPlaces.has(name) || columns.some((column) => column.name === name);
}

/** Whether something in it goes by this name, so that the name is not the table outside. */
function namesTable(value: unknown, alias: string): boolean {
  let found = false;
  visit(value, (key, body) => {
    const isPlainTable = key === "RangeVar" && body.alias === undefined && text(body.relname) === alias;
    if (isPlainTable || bodyOf(body.alias)?.aliasname === alias) found = true;
    return !found;
  });
  return found;
}

/** WITH's queries by their names; a scope of the analysis is one. */
interface Names {
  readonly parent: Names | null;
  readonly ctes: ReadonlyMap<string, Named>;
}
interface Named {
  readonly body: Body;
  /** Where its query stands. */
  readonly scope: Names | null;
}

/**
 * Whether every relation a SELECT reads is narrowed by a WHERE. WITH's own writes are: each is judged by itself.
 * @param around what it stands in
 */
export function bounded(body: Body, around: Names | null = null): boolean {
  const names = entered(bodyOf(body.withClause), around);
  if (body.op !== undefined && body.op !== "SETOP_NONE") {
    return [body.larg, body.rarg].every((side) => bounded(bodyOf(side) ?? {}, names));
  }
  if (narrows(body.whereClause)) return true;
  return nodes(body.fromClause).every((item) => boundedItem(item, names));
}

function boundedItem({ kind, body }: Node, names: Names | null): boolean {
  if (kind === "RangeVar") return isBoundedName(body, names);
  if (kind === "RangeSubselect") return bounded(node(body.subquery)?.body ?? {}, names);
  if (kind === "JoinExpr")
    return [node(body.larg), node(body.rarg)].every((side) => side === undefined || boundedItem(side, names));
  return kind === "RangeFunction" || kind === "RangeTableFunc" || kind === "JsonTable";
}

/** Without RECURSIVE a query sees those before it only, and settles what it is of them at once. */
function entered(clause: Body | undefined, around: Names | null): Names | null {
  if (clause === undefined) return around;
  const names = { parent: around, ctes: new Map<string, Named>() };
  const recursive = clause.recursive === true;
  for (const { body } of nodes(clause.ctes)) {
    const one = { body, scope: names };
    if (!recursive) isBoundedQuery(one);
    names.ctes.set(text(body.ctename), one);
  }
  return names;
}

function isBoundedName(rangeVar: Body, names: Names | null): boolean {
  if (rangeVar.schemaname !== undefined) return false;
  const name = text(rangeVar.relname);
  for (let level = names; level !== null; level = level.parent) {
    const found = level.ctes.get(name);
    if (found) return isBoundedQuery(found);
  }
  return false;
}

const settled = new WeakMap<Body, boolean>();

function isBoundedQuery({ body, scope }: Named): boolean {
  const known = settled.get(body);
  if (known !== undefined) return known;
  // A query that reads its own rows has no end that could be told.
  settled.set(body, false);
  const query = node(body.ctequery);
  const result = query?.kind === "SelectStmt" ? bounded(query.body, scope) : query !== undefined;
  settled.set(body, result);
  return result;
}

/** `SELECT set_config('name', 'value', false)`, as drivers send it: a SET by another name, and judged as that. */
import { type Body, bodyOf, isBody, list, type Node, node, nodes, strings, text } from "./ast.ts";
import type { Findings } from "./findings.ts";
import { setting } from "./session-statement.ts";
import type { Kind } from "./statement-kind.ts";

const setConfig = "pg_catalog.set_config";

/**
 * @param findings of the whole statement, whose call is taken out where it does no more than SET would: of constants
 * alone, and once at most. @returns what it does to the session; undefined for any other statement
 */
export function setByFunction(body: Body, findings: Findings): Kind["statement"] {
  const set = settingOf(body);
  // A function or operator of a user's by one of these names would be another.
  if (set === undefined || ![...findings.functions].every((name) => name.startsWith("pg_catalog."))) return undefined;
  findings.functions.delete(setConfig);
  return setting(set, findings).statement;
}

/** As SET's own node, which is made of constants without a cast: one could make another name or value of them. */
function settingOf(select: Body): Body | undefined {
  if (!hasOnly(select, ["targetList", "fromClause", "whereClause", "limitOption", "op"])) return undefined;
  if (select.limitOption !== "LIMIT_OPTION_DEFAULT" || select.op !== "SETOP_NONE") return undefined;
  const [target, ...more] = nodes(select.targetList);
  const call = node(target?.body.val);
  if (more.length > 0 || !isPlainCall(call, "set_config") || !isOnce(select)) return undefined;
  const [name, value, local, ...rest] = nodes(call?.body.args).map(({ kind, body }) =>
    kind === "A_Const" ? body : {},
  );
  if (rest.length > 0 || !isBody(name?.sval) || !isBody(value?.sval) || !isBody(local?.boolval)) return undefined;
  const args = [list(call?.body.args)[1]];
  return { kind: "VAR_SET_VALUE", name: text(name.sval.sval), args, is_local: local.boolval.boolval === true };
}

/** From nothing, or from the one row of pg_show_all_settings() that has a name. */
function isOnce({ fromClause, whereClause }: Body): boolean {
  if (fromClause === undefined) return whereClause === undefined;
  const [from, ...more] = nodes(fromClause);
  if (from?.kind !== "RangeFunction" || more.length > 0 || !hasOnly(from.body, ["functions"])) return false;
  const [rows, ...others] = nodes(from.body.functions);
  if (others.length > 0 || !isPlainCall(nodes(rows?.body.items)[0], "pg_show_all_settings")) return false;
  const where = node(whereClause);
  if (where?.kind !== "A_Expr" || where.body.kind !== "AEXPR_OP" || strings(where.body.name).join() !== "=")
    return false;
  const left = node(where.body.lexpr);
  return left?.kind === "ColumnRef" && strings(left.body.fields).join() === "name" && isText(where.body.rexpr);
}

const isText = (value: unknown) => isBody(bodyOf(bodyOf(value)?.A_Const)?.sval);

function isPlainCall(call: Node | undefined, name: string): boolean {
  if (call?.kind !== "FuncCall" || call.body.funcformat !== "COERCE_EXPLICIT_CALL") return false;
  const [last, schema = "pg_catalog", ...more] = strings(call.body.funcname).reverse();
  if (last !== name || schema !== "pg_catalog" || more.length > 0) return false;
  return hasOnly(call.body, ["funcname", "args", "funcformat", "location"]);
}

function hasOnly(body: Body, known: readonly string[]): boolean {
  return Object.keys(body).every((name) => known.includes(name));
}

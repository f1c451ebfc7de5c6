/** Statements about the session and its transactions: SET, SHOW, DISCARD, BEGIN and their like. */
import { type Body, constantText, nodes, text } from "./ast.ts";
import type { Findings } from "./findings.ts";
import { decidesNames, localSetting, settingFeature } from "./settings.ts";
import type { Kind } from "./statement-kind.ts";

/**
 * The gateway reads names by queries, which see the transaction's snapshot; PostgreSQL resolves them by what is
 * committed now. Only at READ COMMITTED are the two the same, so a longer snapshot is for policy to refuse.
 */
function isolation(name: string, value: string | undefined, findings: Findings): void {
  if (!/^(?:default_)?transaction_isolation$/.test(name)) return;
  if (!/^read (?:un)?committed$/i.test(value ?? "")) findings.features.add("transaction.snapshot");
}

/** BEGIN, START TRANSACTION, SET TRANSACTION and SET SESSION CHARACTERISTICS name it among their options. */
function transactionOptions(options: unknown, findings: Findings): void {
  for (const { body } of nodes(options)) {
    const [name, value] = [text(body.defname), constantText(body.arg)];
    isolation(name, value, findings);
    if (name === "transaction_read_only") findings.features.add(`transaction.read_${isOff(value) ? "write" : "only"}`);
  }
}

const isOff = (value: string | undefined) => value === undefined || /^(?:0|off|false)$/i.test(value);

export function transaction(body: Body, findings: Findings): Kind {
  const what = text(body.kind).replace("TRANS_STMT_", "").toLowerCase();
  if (/prepare|commit_prepared|rollback_prepared/.test(what)) findings.features.add("two_phase");
  transactionOptions(body.options, findings);
  // What is rolled back may have been DDL or SET, and what was prepared another session's DDL.
  const mayChange = /^(?:rollback|commit_prepared)/.test(what);
  return {
    verb: what.replaceAll("_", " ").toUpperCase(),
    class: "transaction",
    statement: { transaction: what, changesCatalog: mayChange, changesSession: mayChange },
  };
}

export function setting(body: Body, findings: Findings): Kind {
  const name = text(body.name).toLowerCase();
  const what = text(body.kind);
  if (what === "VAR_RESET_ALL") {
    findings.features.add("reset.all");
    return { verb: "RESET", class: "session", statement: { changesSession: true } };
  }
  if (what === "VAR_SET_MULTI") {
    // SET TRANSACTION and SET SESSION CHARACTERISTICS; its snapshot form takes another transaction's view.
    if (name === "transaction snapshot") findings.features.add("transaction.snapshot");
    transactionOptions(body.args, findings);
    return { verb: "SET", class: "session" };
  }
  if (body.is_local === true) localSetting(name, findings);
  if (what === "VAR_RESET") findings.features.add(`reset:${name}`);
  settingFeature(name, findings);
  // search_path takes several.
  const values = nodes(body.args).map((one) => constantText({ [one.kind]: one.body }));
  const value = values.length > 0 && !values.includes(undefined) ? values.join(", ") : null;
  if (what !== "VAR_RESET") isolation(name, value ?? undefined, findings);
  return {
    verb: what === "VAR_RESET" ? "RESET" : "SET",
    class: "session",
    statement: { setting: { name, value }, changesSession: decidesNames(name) },
  };
}

/** What it checks now was written before it: an error of that is shown as that of a commit is. */
export const constraints: Kind = { verb: "SET CONSTRAINTS", class: "session" };

export function discard(body: Body, findings: Findings): Kind {
  findings.features.add("discard");
  return {
    verb: "DISCARD",
    class: "session",
    statement: {
      changesCatalog: true,
      changesSession: true,
      ...(body.target === "DISCARD_ALL" && { deallocate: { name: null }, close: { name: null } }),
    },
  };
}

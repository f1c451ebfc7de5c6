/** Parameters of a session, as SET and set_config name them. */
import type { Findings } from "./findings.ts";

/** Parameters that decide what a statement's names or text mean. */
const deciding = new Set([
  "search_path",
  "role",
  "session_authorization",
  "standard_conforming_strings",
  "client_encoding",
  "backslash_quote",
]);

export function decidesNames(name: string): boolean {
  return deciding.has(name.toLowerCase());
}

/** Nothing announces that the end of a transaction took a local setting back, so names would be misread after it. */
export function localSetting(name: string, findings: Findings): void {
  if (decidesNames(name)) findings.incomplete.add(`${name.toLowerCase()} set for one transaction only`);
}

export function settingFeature(name: string, findings: Findings): void {
  const lower = name.toLowerCase();
  if (lower === "role") findings.features.add("set.role");
  else if (lower === "session_authorization") findings.features.add("set.session_authorization");
  else findings.features.add(`set:${lower}`);
}

/**
 * Settings that decide how text is read. What was judged was read in one way only, so they stay: a statement that would
 * change one fails, and a session whose target reports another ends.
 */
import { GatewayError } from "../errors.ts";
import type { AnalysedStatement } from "./analysed.ts";
import { nativeError } from "./diagnostics.ts";
import type { NoticeFields } from "./messages.ts";

/** PostgreSQL's own way to compare names of encodings. */
export function encodingName(value: string): string {
  return value.replace(/[^a-z0-9]/gi, "").toLowerCase();
}

interface Required {
  readonly says: string;
  /** Of each a target reports one spelling, but for "UNICODE" (`check_client_encoding`). */
  readonly isReported: (value: string) => boolean;
  /** A statement may spell it in several ways. */
  readonly isAsked: (value: string) => boolean;
}

const required: Readonly<Record<string, Required>> = {
  client_encoding: {
    says: "client_encoding must stay UTF8 through this gateway",
    isReported: (value) => ["UTF8", "UNICODE"].includes(value.toUpperCase()),
    isAsked: (value) => ["utf8", "unicode"].includes(encodingName(value)),
  },
  standard_conforming_strings: {
    says: "standard_conforming_strings must stay on through this gateway",
    isReported: (value) => value === "on",
    isAsked: (value) => /^(on|t|tr|tru|true|y|ye|yes|1)$/i.test(value.trim()),
  },
};

/** @returns the error in the place of a command that sets one otherwise. RESET and DEFAULT give what the session began with. */
export function refusedSetting(statements: readonly AnalysedStatement[]): NoticeFields | undefined {
  for (const { setting } of statements) {
    if (setting === undefined || setting.value === null) continue;
    const rule = required[setting.name.toLowerCase()];
    if (rule !== undefined && !rule.isAsked(setting.value)) return nativeError("0A000", rule.says);
  }
  return undefined;
}

/** @param value as the target reports it. @throws GatewayError upstream.protocol */
export function checkReportedSetting(name: string, value: string): void {
  const rule = required[name.toLowerCase()];
  if (rule !== undefined && !rule.isReported(value)) throw new GatewayError("upstream.protocol", rule.says);
}

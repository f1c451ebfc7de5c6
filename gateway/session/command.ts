/** A command as a protocol hands it over, and its texts as they are recorded and shown: without secrets, and cut. */
import { limits } from "../limits.ts";
import type { Rule } from "../policy/decision.ts";
import type { CommandAnalysis } from "../policy/input.ts";
import { redacted } from "../recording/named-secrets.ts";
import type { SessionDependencies } from "./dependencies.ts";

export interface CommandRequest {
  readonly text: string;
  /** The statements that it executes or fetches by name. */
  readonly standsFor?: readonly string[] | undefined;
  readonly analysis: CommandAnalysis;
  /** The policy's labels of the target that the analysis was made with. */
  readonly labels: ReadonlyMap<string, readonly string[]>;
  /** Text form of each parameter; SQL NULL is null, binary values are \x hex. */
  readonly params: readonly (string | null)[];
  readonly via: string;
}

export class CommandTexts {
  readonly #redact: SessionDependencies["redact"];
  #last: { readonly text: string; readonly recorded: string } | undefined;

  constructor(redact: SessionDependencies["redact"]) {
    this.#redact = redact;
  }

  recorded(request: CommandRequest) {
    const { params, standsFor } = request;
    return {
      text: this.#recordedText(request),
      standsFor: standsFor?.map((one) => redactedStart(one, this.#redact.statement, limits.recordedTextBytesMax)),
      params: params.length === 0 ? params : params.map((value) => value && redactedStart(value, this.#redact.value)),
    };
  }

  /** Its analysis and the rules that judged it: where their words quote the text, no more of it than is recorded. */
  recordedWords(request: CommandRequest, rules: readonly Rule[]) {
    const { analysis } = request;
    if (analysis.incomplete.length === 0) return { analysis, rules };
    const text = this.#recordedText(request);
    const unrecorded = analysis.incomplete.flatMap((reason) => {
      const quoted = / at or near "([\s\S]+)"$/.exec(reason)?.[1];
      return quoted === undefined || text.includes(quoted) ? [] : [`"${quoted}"`];
    });
    if (unrecorded.length === 0) return { analysis, rules };
    const shown = (words: string) => unrecorded.reduce((kept, one) => kept.replaceAll(one, `"${redacted}"`), words);
    return {
      analysis: { ...analysis, incomplete: analysis.incomplete.map(shown) },
      rules: rules.map((rule) => ({ ...rule, message: shown(rule.message) })),
    };
  }

  /** A prepared statement brings the same text again and again. */
  #recordedText({ text, analysis }: CommandRequest): string {
    if (text !== this.#last?.text) {
      const { statement, value } = this.#redact;
      // What does not parse may have no literals where it seems to: it is looked at as any text, too.
      const isSql = analysis.complete || analysis.statements.length > 0;
      const redact = isSql ? statement : (one: string) => value(statement(one));
      this.#last = { text, recorded: redactedStart(text, redact, limits.recordedTextBytesMax) };
    }
    return this.#last.recorded;
  }

  /**
   * The whole command, but for secrets: its parameters as SQL comments before it, what it stands for behind it.
   * @returns undefined where that is more than anybody could read
   */
  shownToApprovers(request: CommandRequest): string | undefined {
    const { text, standsFor = [], params } = request;
    // Before secrets are looked for, which takes time.
    if ([text, ...standsFor].some(({ length }) => length > limits.approvalTextLengthMax)) return undefined;
    // First what no text can come before, so that none can pass for it.
    const lines = params.map((value, index) => {
      const shown = value === null ? "NULL" : shortened(redactedStart(value, this.#redact.value), value.length);
      return `-- $${index + 1} = ${shown}`;
    });
    if (params.length > 0) lines.push("");
    lines.push(this.#redact.statement(text));
    for (const one of standsFor) lines.push("", "-- which stands for:", this.#redact.statement(one));
    const shown = lines.join("\n");
    return shown.length > limits.approvalTextLengthMax ? undefined : shown;
  }
}

/** sha256:<hex> of text and parameters, unambiguous in their lengths. */
export function digestOf(text: string, params: readonly (string | null)[]): string {
  if (params.length === 0) return `sha256:${Bun.SHA256.hash(text, "hex")}`;
  // In one piece: each further call of a hash costs more than a short statement's bytes.
  let whole = text;
  for (const value of params) whole += value === null ? "\u0000-" : `\u0000+${value.length}:${value}`;
  return `sha256:${Bun.SHA256.hash(whole, "hex")}`;
}

/** One line, with a mark where there is more. @param length of the whole */
function shortened(value: string, length: number): string {
  const max = limits.approvalParameterLengthMax;
  const shown = JSON.stringify(value.slice(0, max));
  return length > max ? `${shown} … (the first ${max} of ${length} characters)` : shown;
}

/** What is kept of a text or parameter. Redacted before the cut, so that no secret is cut to what no pattern knows. */
function redactedStart(
  value: string,
  redact: (text: string) => string,
  max = limits.recordedParameterBytesMax,
): string {
  return redact(value.slice(0, max + limits.tokenBytesMax)).slice(0, max);
}

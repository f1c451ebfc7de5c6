/** What a command of the CLI is, how its line is parsed, and how it ends. */
import { type ParseArgsConfig, parseArgs } from "node:util";
import type { ErrorCode } from "../errors.ts";
import type { Terminal } from "./terminal.ts";

/** Documented in `sallyport --help`. */
export const exitCodes = {
  ok: 0,
  /** Refused or failed: the message says why. */
  failed: 1,
  /** The line is not one the CLI knows. */
  usage: 2,
  /** No token, or one the gateway does not take. */
  unauthenticated: 3,
  /** The gateway or the store does not answer. */
  unreachable: 4,
  /** A recording does not verify. */
  tampered: 5,
} as const;

export interface Option {
  readonly type: "string" | "boolean";
  /** How its value is called in the help. */
  readonly value?: string;
  readonly help: string;
}

export interface Invocation {
  readonly values: Readonly<Record<string, string | boolean | undefined>>;
  readonly positionals: readonly string[];
  readonly terminal: Terminal;
  readonly signal: AbortSignal;
}

export interface Command {
  readonly name: string;
  readonly summary: string;
  /** What follows the name, e.g. "<id> [options]". */
  readonly synopsis: string;
  readonly options: Readonly<Record<string, Option>>;
  readonly positionals: { readonly min: number; readonly max: number };
  /** Everything after the name (or after the first positional) goes to another program, unparsed. */
  readonly passThrough?: "all" | "after-first";
  run(invocation: Invocation): Promise<number>;
}

/** The line is wrong: usage and exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** An error that the gateway answered with, or the way to it. */
export class ClientError extends Error {
  override readonly name = "ClientError";
  readonly exitCode: number;
  readonly code: ErrorCode | "unreachable";
  readonly hint: string | undefined;

  constructor(exitCode: number, code: ErrorCode | "unreachable", message: string, hint?: string) {
    super(message);
    this.exitCode = exitCode;
    this.code = code;
    this.hint = hint;
  }
}

export const gatewayOptions: Readonly<Record<string, Option>> = {
  gateway: { type: "string", value: "url", help: "the gateway's address (SALLYPORT_GATEWAY, http://127.0.0.1:8080)" },
  json: { type: "boolean", help: "write JSON" },
};
export const storeOption: Readonly<Record<string, Option>> = {
  store: {
    type: "string",
    value: "store",
    help: "read this store itself: a file, an address, or a gateway.yaml (operators)",
  },
};
const helpOption: Option = { type: "boolean", help: "show this help" };

/** What `parseArgs` found wrong, without its advice. */
export function lineProblem({ message }: Error): string {
  return message.split(/\. To specify|\.\n/)[0] ?? message;
}

/** @throws UsageError for an option or argument that the command does not know. */
export function parseLine(command: Command, line: readonly string[]) {
  if (command.passThrough === "all") return { values: {}, positionals: [...line] };
  const options: NonNullable<ParseArgsConfig["options"]> = { help: { type: "boolean", short: "h" } };
  for (const [name, option] of Object.entries(command.options)) options[name] = { type: option.type };
  let own = [...line];
  let rest: string[] = [];
  if (command.passThrough === "after-first") {
    const first = firstPositional(own, options);
    rest = own.slice(first + 1);
    own = own.slice(0, first + 1);
  }
  let parsed: { values: Record<string, string | boolean | undefined>; positionals: string[] };
  try {
    const { values, positionals } = parseArgs({ args: own, options, strict: true, allowPositionals: true });
    parsed = { values: values as Record<string, string | boolean | undefined>, positionals };
  } catch (error) {
    throw new UsageError(lineProblem(error as Error));
  }
  const { values, positionals } = parsed;
  if (values.help !== true) {
    const { min, max } = command.positionals;
    if (positionals.length < min) throw new UsageError(`it needs ${command.synopsis.replace(/ ?\[options\] ?/, "")}`);
    if (positionals.length > max) throw new UsageError(`unexpected argument "${positionals[max]}"`);
  }
  return { values, positionals: [...positionals, ...rest] };
}

function firstPositional(line: readonly string[], options: NonNullable<ParseArgsConfig["options"]>): number {
  for (let index = 0; index < line.length; index++) {
    const word = line[index] ?? "";
    if (!word.startsWith("-")) return index;
    if (word === "--") return index + 1;
    const takesValue = options[word.replace(/^--/, "")]?.type === "string" && !word.includes("=");
    if (takesValue) index++;
  }
  return line.length;
}

export function commandUsage(command: Command): string {
  const options = Object.entries({ ...command.options, help: helpOption }).map(([name, option]) => {
    const spelled = option.type === "string" ? `--${name} <${option.value ?? "value"}>` : `--${name}`;
    return [spelled, option.help] as const;
  });
  const width = Math.max(...options.map(([spelled]) => spelled.length));
  const lines = options.map(([spelled, help]) => `  ${spelled.padEnd(width)}  ${help}\n`).join("");
  return `Usage: sallyport ${command.name} ${command.synopsis}\n\n${command.summary}\n\nOptions:\n${lines}`;
}

export function stringOption(invocation: Invocation, name: string): string | undefined {
  const value = invocation.values[name];
  return typeof value === "string" ? value : undefined;
}

export function requirePositional(invocation: Invocation, index: number): string {
  const value = invocation.positionals[index];
  if (value === undefined) throw new UsageError("an argument is missing");
  return value;
}

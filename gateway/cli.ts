/** `sallyport …`: the command line of the gateway's users, approvers, auditors and operators. See `sallyport --help`. */
import { DrizzleQueryError } from "drizzle-orm/errors";
import { ZodError } from "zod";
import { version } from "../package.json";
import { approvalsCommand, approveCommand, denyCommand } from "./cli/approvals.ts";
import { ClientError, type Command, commandUsage, exitCodes, parseLine, UsageError } from "./cli/command.ts";
import { exportCommand } from "./cli/export.ts";
import { loginCommand, tokenCommand } from "./cli/login.ts";
import { policyCommand } from "./cli/policy.ts";
import { psqlCommand } from "./cli/psql.ts";
import { replayCommand } from "./cli/replay.ts";
import { sessionsCommand } from "./cli/sessions.ts";
import { statusCommand } from "./cli/status.ts";
import { escapeControls, jsonText, paint, processTerminal, type Terminal } from "./cli/terminal.ts";
import { verifyCommand } from "./cli/verify.ts";
import { GatewayError } from "./errors.ts";
import { redactText } from "./log.ts";

const commands: readonly Command[] = [
  loginCommand,
  tokenCommand,
  psqlCommand,
  sessionsCommand,
  replayCommand,
  exportCommand,
  verifyCommand,
  approvalsCommand,
  approveCommand,
  denyCommand,
  statusCommand,
  policyCommand,
];

function usage(): string {
  const width = Math.max(...commands.map((command) => command.name.length));
  const list = commands.map((command) => `  ${command.name.padEnd(width)}  ${command.summary}\n`).join("");
  return `Usage: sallyport <command> [options]

Commands:
${list}
Each takes --help; --version tells this one's. The caller's token is SALLYPORT_TOKEN, else the stored login; the gateway is --gateway,
else SALLYPORT_GATEWAY, else http://127.0.0.1:8080. An operator at the machine reads a store by --store <file>.

Exit codes: 0 done; 1 refused or failed; 2 usage; 3 no valid token; 4 gateway or store does not answer;
5 a recording does not verify. psql and policy end with their program's own.
`;
}

const interrupted = 130;

/** @returns the exit code. */
export async function runCli(line: readonly string[], terminal: Terminal, signal: AbortSignal): Promise<number> {
  const [name, ...rest] = line;
  if (name === undefined) {
    terminal.err(usage());
    return exitCodes.usage;
  }
  if (name === "--help" || name === "-h" || name === "help") {
    const asked = commands.find((command) => command.name === rest[0]);
    terminal.out(asked === undefined ? usage() : commandUsage(asked));
    return exitCodes.ok;
  }
  if (name === "--version") {
    terminal.out(`sallyport ${version}\n`);
    return exitCodes.ok;
  }
  const command = commands.find((candidate) => candidate.name === name);
  if (command === undefined) {
    terminal.err(`sallyport: there is no command "${escapeControls(name)}"\n\n${usage()}`);
    return exitCodes.usage;
  }
  try {
    const { values, positionals } = parseLine(command, rest);
    if (values.help === true) {
      terminal.out(commandUsage(command));
      return exitCodes.ok;
    }
    return await command.run({ values, positionals, terminal, signal });
  } catch (error) {
    if (signal.aborted) return interrupted;
    return report(error, command, terminal, rest.includes("--json"));
  }
}

function report(error: unknown, command: Command, terminal: Terminal, asJson: boolean): number {
  if (error instanceof UsageError) {
    if (asJson) terminal.err(`${jsonText({ error: { code: "usage", message: error.message } })}\n`);
    else terminal.err(`sallyport ${command.name}: ${escapeControls(error.message)}\n\n${commandUsage(command)}`);
    return exitCodes.usage;
  }
  const { exitCode, code, message, hint } = describe(error);
  if (asJson) terminal.err(`${jsonText({ error: { code, message, hint } })}\n`);
  else {
    terminal.err(`${paint(terminal, "red", "error:")} ${escapeControls(message)}\n`);
    if (hint !== undefined) terminal.err(`${paint(terminal, "dim", "hint:")}  ${escapeControls(hint)}\n`);
  }
  return exitCode;
}

function describe(error: unknown): { exitCode: number; code: string; message: string; hint: string | undefined } {
  if (error instanceof ClientError) return error;
  if (error instanceof GatewayError) {
    const { code, message, cause } = error;
    const unauthenticated = code === "api.unauthenticated" || code.startsWith("identity.");
    // Of an identity provider, whose addresses a gateway would not tell its callers.
    const why = unauthenticated && cause instanceof Error ? redactText(cause.message) : undefined;
    const hint = error.hint ?? why;
    const elsewhere = code === "store.unavailable" ? exitCodes.unreachable : exitCodes.failed;
    return { exitCode: unauthenticated ? exitCodes.unauthenticated : elsewhere, code, message, hint };
  }
  if (error instanceof ZodError)
    return {
      exitCode: exitCodes.failed,
      code: "api.invalid",
      message: "The gateway's answer is not one this CLI knows.",
      hint: "Do their versions match?",
    };
  if (error instanceof DrizzleQueryError) {
    const why = redactText(error.cause?.message ?? "no reason was given");
    return {
      exitCode: exitCodes.failed,
      code: "store.unavailable",
      message: `The store cannot be read: ${why}`,
      hint: undefined,
    };
  }
  const message = redactText(error instanceof Error ? error.message : String(error));
  return { exitCode: exitCodes.failed, code: "internal", message, hint: undefined };
}

/**
 * Of a command whose output could not all be written. Where its reader went away (`| head`) that is no fault of its own;
 * anything else is. What it had found out counts either way.
 */
function withoutReader(code: number, error: NodeJS.ErrnoException, terminal: Terminal): number {
  const own = code === interrupted ? exitCodes.ok : code;
  if (error.code === "EPIPE") return own;
  terminal.err(`${paint(terminal, "red", "error:")} the output could not be written: ${error.code ?? error.message}\n`);
  return own === exitCodes.ok ? exitCodes.failed : own;
}

if (import.meta.main) {
  const abort = new AbortController();
  const terminal = processTerminal();
  const [name, ...rest] = process.argv.slice(2);
  let ended: number | undefined;
  let unwritten: NodeJS.ErrnoException | undefined;
  // It may come after the command has ended: a file is written behind its back.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (unwritten !== undefined) return;
    unwritten = error;
    if (ended !== undefined) process.exitCode = withoutReader(ended, error, terminal);
    // What verify is asked for is its exit code, which needs no reader.
    else if (name !== "verify") abort.abort();
  });
  const interrupt = () => abort.abort();
  if (name !== "psql" && name !== "policy") process.once("SIGINT", interrupt);
  ended = await runCli(name === undefined ? [] : [name, ...rest], terminal, abort.signal);
  process.exitCode = unwritten === undefined ? ended : withoutReader(ended, unwritten, terminal);
  process.off("SIGINT", interrupt);
}

/**
 * The packets a client opens with (SSLRequest, GSSENCRequest, CancelRequest, StartupMessage) and which of a
 * StartupMessage's parameters a session accepts. A parameter that is not listed here is refused, never passed on.
 */
import { GatewayError } from "../errors.ts";
import type { StartupMessage, StartupPacket } from "./messages.ts";
import { type Frame, PayloadReader } from "./reader.ts";
import { encodingName } from "./text-settings.ts";

const requestCodes = { cancel: 80_877_102, ssl: 80_877_103, gssenc: 80_877_104 } as const;

/** The newest minor version of protocol 3 that is spoken to clients. */
export const protocolMinorMax = 2;

/** Int32 code, or version as major << 16 | minor | what belongs to it */
export function decodeStartupPacket(frame: Frame): StartupPacket {
  const reader = new PayloadReader(frame, "startup");
  const code = reader.int32();
  switch (code) {
    case requestCodes.ssl:
      reader.end();
      return { type: "SSLRequest" };
    case requestCodes.gssenc:
      reader.end();
      return { type: "GSSENCRequest" };
    case requestCodes.cancel: {
      const processId = reader.int32();
      if (reader.remaining < 4 || reader.remaining > 256) reader.malformed(`a key of ${reader.remaining} bytes`);
      return { type: "CancelRequest", processId, secretKey: reader.rest() };
    }
  }
  if (code >> 16 !== 3) {
    throw new GatewayError(
      "protocol.unsupported",
      `protocol version ${code >>> 16}.${code & 0xffff} is not supported`,
      {
        hint: "Use a client that speaks PostgreSQL's protocol 3.",
      },
    );
  }
  const parameters = new Map<string, string>();
  for (let name = reader.string(); name !== ""; name = reader.string()) {
    if (parameters.has(name)) reader.malformed(`parameter "${name}" is given twice`);
    parameters.set(name, reader.string());
  }
  reader.end();
  return { type: "StartupMessage", minor: code & 0xffff, parameters };
}

/** Settings a caller may choose for its own session. None of them widens what it may read or do. */
const settings = new Set([
  "application_name",
  "client_min_messages",
  "datestyle",
  "extra_float_digits",
  "geqo",
  "idle_in_transaction_session_timeout",
  "intervalstyle",
  "jit",
  "lock_timeout",
  "search_path",
  "statement_timeout",
  "timezone",
]);

export interface SessionContext {
  readonly reason?: string;
  readonly prompt?: string;
  readonly ticket?: string;
}
const contextNames = ["reason", "prompt", "ticket"] as const;

/** What a StartupMessage says, checked. */
export interface StartupRequest {
  readonly user: string;
  /** As the client named it; the user's name when it named none, as PostgreSQL does. */
  readonly database: string;
  readonly applicationName: string;
  /** Settings for the target, names in lower case; `application_name` is among them when given. */
  readonly settings: Readonly<Record<string, string>>;
  /** The caller's claims about itself; never sent to the target. */
  readonly context: SessionContext;
  /** Minor version spoken from here on. */
  readonly minor: number;
  /** Set when the client must be told by NegotiateProtocolVersion: the protocol options it named. */
  readonly unrecognized: readonly string[] | undefined;
}

/** @throws GatewayError protocol.parameter_refused naming the parameter, protocol.unsupported, protocol.malformed */
export function readStartupMessage(message: StartupMessage): StartupRequest {
  const accepted: Record<string, string> = {};
  const context: { -readonly [Name in keyof SessionContext]: SessionContext[Name] } = {};
  const unrecognized: string[] = [];
  let user = "";
  let database = "";
  const set = (given: string, value: string) => {
    const name = given.toLowerCase();
    const contextName = contextNames.find((known) => name === `sallyport.${known}`);
    if (contextName !== undefined) context[contextName] = value;
    else if (name === "client_encoding") checkEncoding(value);
    else if (name === "standard_conforming_strings" && isOn(value)) return;
    // Off would lift what the target has for its role or database.
    else if (name === "default_transaction_read_only" && isOn(value)) accepted[name] = value;
    else if (settings.has(name)) accepted[name] = value;
    else throw refused(given);
  };
  for (const [name, value] of message.parameters) {
    if (name === "user") user = value;
    else if (name === "database") database = value;
    else if (name === "options") for (const [option, text] of parseOptions(value)) set(option, text);
    else if (name === "replication") checkReplication(value);
    else if (name.startsWith("_pq_.")) unrecognized.push(name);
    else set(name, value);
  }
  if (user === "") {
    throw new GatewayError("protocol.malformed", "no PostgreSQL user name specified in startup packet");
  }
  return {
    user,
    database: database === "" ? user : database,
    applicationName: accepted.application_name ?? "",
    settings: accepted,
    context,
    minor: Math.min(message.minor, protocolMinorMax),
    unrecognized: message.minor > protocolMinorMax || unrecognized.length > 0 ? unrecognized : undefined,
  };
}

const isOn = (value: string) => /^(on|true|yes|1)$/i.test(value);

function refused(name: string): GatewayError {
  const shown = name.length > 64 ? `${name.slice(0, 64)}…` : name;
  // In the words of PgBouncer, which drivers know.
  return new GatewayError("protocol.parameter_refused", `unsupported startup parameter: "${shown}"`, {
    hint: `Accepted: ${[...settings].join(", ")}, default_transaction_read_only (on), sallyport.reason, sallyport.prompt, sallyport.ticket. SET others once connected, where policy permits it.`,
  });
}

/** A session always speaks UTF-8. SQL_ASCII, which libpq sends in the C locale, promises no encoding and gets UTF-8 too. */
function checkEncoding(value: string): void {
  if (["utf8", "unicode", "sqlascii", "auto"].includes(encodingName(value))) return;
  throw new GatewayError("protocol.parameter_refused", "client_encoding must be UTF8", {
    hint: "Set PGCLIENTENCODING=UTF8.",
  });
}

function checkReplication(value: string): void {
  if (/^(false|off|no|0)$/i.test(value)) return;
  throw new GatewayError("protocol.unsupported", "replication connections are not supported");
}

/**
 * The `options` parameter: words separated by white space, a backslash takes the next character literally, each
 * `-c name=value`, `-cname=value` or `--name=value`, where a dash in the name is an underscore.
 */
function parseOptions(text: string): [name: string, value: string][] {
  const words = [...text.matchAll(/(?:\\.|[^\s\\])+/gs)].map(([word]) => word.replace(/\\(.)/gs, "$1"));
  if (/(?:^|[^\\])(?:\\\\)*\\$/.test(text)) throw refused("options");
  const found: [string, string][] = [];
  for (let index = 0; index < words.length; index++) {
    let word = words[index] ?? "";
    if (word === "-c") word = `-c${words[++index] ?? ""}`;
    const match = /^(?:-c|--)([^=]+)=(.*)$/s.exec(word);
    if (match === null) throw refused(`options ${word}`);
    found.push([(match[1] ?? "").replaceAll("-", "_"), match[2] ?? ""]);
  }
  return found;
}

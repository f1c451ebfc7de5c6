/**
 * A target's start-up from StartupMessage to the first ReadyForQuery, without a socket: frames in, bytes to send out.
 * The target is treated as hostile: only the documented order is accepted, everything is counted, and a password
 * leaves in clear only through TLS, or over loopback where the configuration turned TLS off.
 */
import { createHash } from "node:crypto";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { decodeBackendMessage } from "./backend-decoder.ts";
import { encodeFrontendMessage } from "./frontend-encoder.ts";
import type { Authentication, BackendKeyData, NoticeFields } from "./messages.ts";
import type { Frame } from "./reader.ts";
import { type ScramChannel, ScramClient } from "./scram.ts";
import type { MessageWriter } from "./writer.ts";

export interface UpstreamCredential {
  readonly user: string;
  readonly password: string | undefined;
  /** Whether it may be sent in clear over a connection without TLS. */
  readonly cleartextAllowed: boolean;
}

type State =
  | { readonly at: "start" }
  | { readonly at: "password-sent" }
  | { readonly at: "sasl-first"; readonly scram: ScramClient }
  | { readonly at: "sasl-final"; readonly scram: ScramClient }
  | { readonly at: "sasl-proved" }
  | { readonly at: "authenticated" }
  | { readonly at: "ready" };

export class UpstreamStartup {
  readonly parameters = new Map<string, string>();
  key: BackendKeyData | undefined;
  #state: State = { at: "start" };
  #messages = 0;
  readonly #credential: UpstreamCredential;
  readonly #channel: ScramChannel;
  readonly #writer: MessageWriter;

  constructor(credential: UpstreamCredential, channel: ScramChannel, writer: MessageWriter) {
    this.#credential = credential;
    this.#channel = channel;
    this.#writer = writer;
  }

  /** Takes one frame; an answer to it is in the writer afterwards. @returns true at ReadyForQuery */
  async receive(frame: Frame): Promise<boolean> {
    if (++this.#messages > limits.upstreamStartupMessagesMax) {
      throw broken(`more than ${limits.upstreamStartupMessagesMax} messages before it was ready`);
    }
    const message = decodeBackendMessage(frame);
    const authenticated = this.#state.at === "authenticated";
    switch (message.type) {
      case "ErrorResponse":
        throw startupError(message.fields, authenticated);
      case "NoticeResponse":
        return false;
      case "ParameterStatus":
        if (!authenticated) break;
        this.parameters.set(message.name, message.value);
        return false;
      case "BackendKeyData":
        if (!authenticated || this.key !== undefined) break;
        this.key = { ...message, secretKey: Buffer.from(message.secretKey) };
        return false;
      case "ReadyForQuery":
        if (!authenticated || message.status !== "I") break;
        this.#state = { at: "ready" };
        return true;
      case "AuthenticationOk":
      case "AuthenticationCleartextPassword":
      case "AuthenticationMD5Password":
      case "AuthenticationSASL":
      case "AuthenticationSASLContinue":
      case "AuthenticationSASLFinal":
      case "AuthenticationUnsupported":
        this.#state = await this.#authenticate(message);
        return false;
      default:
    }
    throw broken(`an unexpected ${message.type} message`);
  }

  async #authenticate(message: Authentication): Promise<State> {
    const state = this.#state;
    switch (message.type) {
      case "AuthenticationOk":
        // In the midst of SASL it would skip the server's own proof.
        if (state.at === "start" || state.at === "password-sent" || state.at === "sasl-proved") {
          return { at: "authenticated" };
        }
        break;
      case "AuthenticationCleartextPassword":
        if (state.at !== "start") break;
        if (!this.#channel.encrypted && !this.#credential.cleartextAllowed) {
          throw refused("the target asks for the password in clear over a connection without TLS");
        }
        this.#sendPassword(this.#password());
        return { at: "password-sent" };
      case "AuthenticationMD5Password":
        if (state.at !== "start") break;
        this.#sendPassword(md5Password(this.#credential.user, this.#password(), message.salt));
        return { at: "password-sent" };
      case "AuthenticationSASL": {
        if (state.at !== "start") break;
        const scram = new ScramClient(message.mechanisms, this.#password(), this.#channel);
        const data = scram.start();
        encodeFrontendMessage(this.#writer, { type: "SASLInitialResponse", mechanism: scram.mechanism, data });
        return { at: "sasl-first", scram };
      }
      case "AuthenticationSASLContinue":
        if (state.at !== "sasl-first") break;
        encodeFrontendMessage(this.#writer, { type: "SASLResponse", data: await state.scram.proceed(message.data) });
        return { at: "sasl-final", scram: state.scram };
      case "AuthenticationSASLFinal":
        if (state.at !== "sasl-final") break;
        state.scram.finish(message.data);
        return { at: "sasl-proved" };
      case "AuthenticationUnsupported":
        throw refused(`the target asks for authentication method ${message.code}, which is not supported`);
    }
    throw broken(`an unexpected ${message.type} message`);
  }

  #password(): string {
    if (this.#credential.password === undefined) {
      throw refused("the target asks for a password and none is configured");
    }
    return this.#credential.password;
  }

  #sendPassword(password: string): void {
    encodeFrontendMessage(this.#writer, { type: "PasswordMessage", password });
  }
}

/** "md5" + md5(md5(password + user) + salt) */
function md5Password(user: string, password: string, salt: Buffer): string {
  const inner = createHash("md5")
    .update(password + user)
    .digest("hex");
  return `md5${createHash("md5").update(inner).update(salt).digest("hex")}`;
}

/**
 * The target's own words name its user, addresses and pg_hba.conf lines: they go to `cause`, and the caller gets the
 * SQLSTATE.
 */
export function startupError(fields: NoticeFields, authenticated: boolean): GatewayError {
  const sqlstate = /^[0-9A-Z]{5}$/.test(fields.C ?? "") ? fields.C : "XX000";
  const cause = new Error(`${fields.S ?? "ERROR"} ${sqlstate}: ${fields.M ?? ""}`);
  if (sqlstate === "28P01" || sqlstate === "28000") {
    return new GatewayError("upstream.authentication", `the target refused the gateway's login (${sqlstate})`, {
      cause,
    });
  }
  const meaning =
    { "3D000": "its database does not exist", "53300": "it has too many connections", "57P03": "it is not ready" }[
      sqlstate as string
    ] ?? (authenticated ? "it refused the session" : "it refused the connection");
  return new GatewayError("upstream.unreachable", `the target cannot be used: ${meaning} (${sqlstate})`, { cause });
}

function broken(what: string): GatewayError {
  return new GatewayError("upstream.protocol", `the target broke the protocol: ${what}`);
}

function refused(message: string): GatewayError {
  return new GatewayError("upstream.authentication", message);
}

/** The CLI's way to the gateway's API, with the caller's own token. */
import { type ErrorCode, renderings } from "../errors.ts";
import { currentToken } from "../identity/login.ts";
import { ClientError, exitCodes, type Invocation, stringOption, UsageError } from "./command.ts";

const defaultGateway = "http://127.0.0.1:8080";
const loopback = ["127.0.0.1", "localhost", "[::1]"];

export interface ApiClient {
  get(path: string, query?: Readonly<Record<string, string | undefined>>): Promise<unknown>;
  post(path: string, body: unknown): Promise<unknown>;
  /** The answer's lines (JSON lines, or server-sent events), as they come. */
  lines(path: string, query?: Readonly<Record<string, string | undefined>>): AsyncGenerator<string>;
}

/** @throws UsageError when the token would travel in clear to another machine. */
export function gatewayAddress(invocation: Invocation): URL {
  const text =
    stringOption(invocation, "gateway") ?? invocation.terminal.environment.SALLYPORT_GATEWAY ?? defaultGateway;
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new UsageError(`"${text}" is not an address such as ${defaultGateway}`);
  }
  if (url.protocol !== "https:" && !(url.protocol === "http:" && loopback.includes(url.hostname)))
    throw new UsageError("the gateway's address must be https:// (http:// is accepted on loopback only)");
  return url;
}

/** SALLYPORT_TOKEN, else the stored login, renewed where it must be. */
export async function callerToken(environment: Invocation["terminal"]["environment"]): Promise<string> {
  const given = environment.SALLYPORT_TOKEN;
  return given !== undefined && given !== "" ? given.trim() : await currentToken({ environment });
}

async function failure(response: Response): Promise<ClientError> {
  const exitCode = response.status === 401 ? exitCodes.unauthenticated : exitCodes.failed;
  try {
    const { error } = (await response.json()) as { error?: { code?: unknown; message?: unknown; hint?: unknown } };
    if (typeof error?.message === "string") {
      const known = typeof error.code === "string" && Object.hasOwn(renderings, error.code);
      const hint = typeof error.hint === "string" ? error.hint : undefined;
      return new ClientError(exitCode, known ? (error.code as ErrorCode) : "internal", error.message, hint);
    }
  } catch {
    // Not an answer of the gateway: its status has to do.
  }
  return new ClientError(exitCode, "internal", `The gateway answered ${response.status} ${response.statusText}.`);
}

/** By the code that `fetch` gives its failure. */
function unreachable(origin: string, cause: unknown): ClientError {
  const { code = "" } = cause as { readonly code?: string };
  const error = (problem: string, hint: string) =>
    new ClientError(exitCodes.unreachable, "unreachable", `The gateway at ${origin} ${problem}`, hint);
  if (/CERT|ALTNAME|UNABLE_TO_VERIFY/.test(code))
    return error(
      `shows a certificate that is not trusted (${code}).`,
      "An authority of your own is named by NODE_EXTRA_CA_CERTS, a file in PEM.",
    );
  if (code === "UnexpectedRedirect")
    return error("redirects elsewhere, where the token is not taken.", "Name the gateway's own address by --gateway.");
  if (code === "EPROTO") return error("does not speak TLS.", "Is its address http://, or the port another one?");
  if (code === "Malformed_HTTP_Response")
    return error("does not speak HTTP.", "Its API is at listen.http, not at listen.postgres; is its address https://?");
  const why = /^E[A-Z]+$/.test(code) ? `does not answer (${code}).` : "does not answer.";
  return error(why, "Is it running? Name it by --gateway or SALLYPORT_GATEWAY.");
}

export async function connectApi(invocation: Invocation): Promise<ApiClient> {
  const base = gatewayAddress(invocation);
  const token = await callerToken(invocation.terminal.environment);

  async function send(
    path: string,
    query: Readonly<Record<string, string | undefined>>,
    init: RequestInit,
  ): Promise<Response> {
    const url = new URL(path, base);
    for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, value);
    let response: Response;
    try {
      const headers = {
        Authorization: `Bearer ${token}`,
        ...(init.body != null && { "Content-Type": "application/json" }),
      };
      // A redirect would carry the token elsewhere.
      response = await fetch(url, { ...init, headers, redirect: "error", signal: invocation.signal });
    } catch (cause) {
      throw unreachable(base.origin, cause);
    }
    if (!response.ok) throw await failure(response);
    return response;
  }

  return {
    get: async (path, query = {}) => (await send(path, query, {})).json(),
    post: async (path, body) => (await send(path, {}, { method: "POST", body: JSON.stringify(body) })).json(),
    async *lines(path, query = {}) {
      const { body } = await send(path, query, {});
      if (body === null) return;
      const decoder = new TextDecoder();
      let rest = "";
      for await (const chunk of body) {
        const pieces = (rest + decoder.decode(chunk, { stream: true })).split("\n");
        rest = pieces.pop() ?? "";
        yield* pieces;
      }
      if (rest !== "") yield rest;
    },
  };
}

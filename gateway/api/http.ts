/** What every route shares: who calls, how an error is spelled, how a query is checked. */
import type { Context, MiddlewareHandler } from "hono";
import { z } from "zod";
import { type ErrorCode, GatewayError, renderings } from "../errors.ts";
import type { Authenticated, Verifier } from "../identity/verifier.ts";
import { limits } from "../limits.ts";
import type { Logger } from "../log.ts";
import { Slots } from "./slots.ts";

export type ApiEnv = {
  /** Of the connection, where a listener tells. */
  Bindings: { readonly isInClear?: boolean };
  Variables: { caller: Authenticated };
};
export type ApiContext = Context<ApiEnv>;

/** RFC 6750: the token comes in the Authorization header only, so that it is never in an address or a log of one. */
export function bearerToken(header: string | undefined): string {
  if (header === undefined || header === "")
    throw new GatewayError("identity.token_missing", "This request carries no token.", {
      hint: "Send Authorization: Bearer <token>; `sallyport token` prints yours.",
    });
  const match = /^Bearer ([A-Za-z0-9._~+/=-]+)$/i.exec(header);
  if (match?.[1] === undefined)
    throw new GatewayError("identity.token_malformed", "The Authorization header is not of the form Bearer <token>.");
  if (match[1].length > limits.tokenBytesMax)
    throw new GatewayError("identity.token_too_large", `The token is longer than ${limits.tokenBytesMax} bytes.`);
  return match[1];
}

export function authenticate(verifier: Verifier): MiddlewareHandler<ApiEnv> {
  return async (context, next) => {
    // Its caller has to learn of it at the first request, not when the token is stolen.
    if (context.env?.isInClear)
      throw new GatewayError("protocol.tls_required", "A token is accepted over TLS only, or from this machine.", {
        hint: "Ask by https://; the gateway serves it where its configuration has tls.",
      });
    context.set("caller", await verifier.verify(bearerToken(context.req.header("authorization"))));
    await next();
  };
}

/** It would be answered as GET is, and a stream that nobody reads never ends. */
export function refuseHead(): MiddlewareHandler<ApiEnv> {
  return async (context, next) => {
    if (context.req.method === "HEAD") throw new GatewayError("api.invalid", "HEAD is not answered here; use GET.");
    await next();
  };
}

/** What is streamed goes on after it, by limits of its own. */
export function boundRequests(): MiddlewareHandler<ApiEnv> {
  const slots = new Slots("requests are answered");
  return async (context, next) => {
    const { identity } = context.var.caller;
    const giveBack = slots.take(identity, limits.apiRequestsPerIdentityMax, limits.apiRequestsMax);
    try {
      await next();
    } finally {
      giveBack();
    }
  };
}

export function securityHeaders(): MiddlewareHandler {
  return async (context, next) => {
    await next();
    const { headers } = context.res;
    headers.set("X-Content-Type-Options", "nosniff");
    headers.set("X-Frame-Options", "DENY");
    headers.set("Referrer-Policy", "no-referrer");
    headers.set("Cross-Origin-Resource-Policy", "same-origin");
    headers.set("Cross-Origin-Opener-Policy", "same-origin");
    // A console that is mounted on the same application sets its own policies.
    if (!headers.has("Content-Security-Policy"))
      headers.set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
    if (!headers.has("Cache-Control")) headers.set("Cache-Control", "no-store");
  };
}

export function errorBody(code: ErrorCode, message: string, hint?: string) {
  return { error: { code, message, ...(hint !== undefined && { hint }) } };
}

/** A `GatewayError` as its table says; anything else is a fault whose detail goes to the log only. */
export function renderError(error: unknown, context: Context, log: Logger): Response {
  if (!(error instanceof GatewayError)) {
    log.error("request failed", { method: context.req.method, path: context.req.path, error });
    return context.json(errorBody("internal", "The gateway failed to answer; its log says more."), 500);
  }
  const status = renderings[error.code].http;
  if (status >= 500) log.error("request failed", { method: context.req.method, path: context.req.path, error });
  if (status === 401) context.header("WWW-Authenticate", 'Bearer realm="sallyport"');
  return context.json(errorBody(error.code, error.message, error.hint), status);
}

/** @throws GatewayError api.invalid naming the first field that does not fit. */
export function check<Schema extends z.ZodType>(schema: Schema, value: unknown, what: string): z.infer<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const at = issue === undefined || issue.path.length === 0 ? "" : ` ${issue.path.join(".")}:`;
  throw new GatewayError("api.invalid", `${what}:${at} ${issue?.message ?? "not as expected"}`);
}

/** The query's parameters, each at most once. */
export function queryOf(context: Context): Record<string, string> {
  const query: Record<string, string> = Object.create(null);
  for (const [name, values] of Object.entries(context.req.queries())) {
    const [value] = values;
    if (values.length > 1) throw new GatewayError("api.invalid", `The query names ${name} more than once.`);
    if (value !== undefined && value !== "") query[name] = value;
  }
  return query;
}

export const identifier = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, "not an id");
export const instant = z
  .string()
  .max(40)
  .refine((text) => /^\d{4}-\d\d-\d\d(T[\d:.]+(Z|[+-]\d\d:\d\d))?$/.test(text) && !Number.isNaN(Date.parse(text)), {
    message: "a date or an RFC 3339 time such as 2026-01-31T12:00:00Z",
  })
  .transform((text) => Date.parse(text));
export const pageSize = z
  .string()
  .regex(/^[1-9][0-9]{0,5}$/, "a number from 1")
  .transform(Number)
  .refine((count) => count <= limits.apiPageMax, `at most ${limits.apiPageMax}`);

/** @throws GatewayError api.invalid when the path's id cannot be one. */
export function idOf(context: Context): string {
  return check(identifier, context.req.param("id"), "id");
}

/**
 * A real OpenID provider for the demo and the tests: discovery, keys, authorization code with PKCE, device flow, refresh.
 * It asks for no password, so it listens on loopback only. Everything it issues is signed by keys made at its start.
 */
import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair } from "jose";
import type { Account, Configuration, KoaContextWithOIDC, default as Provider } from "oidc-provider";

export interface DemoUser {
  /** The subject. */
  readonly id: string;
  readonly email?: string;
  readonly groups?: readonly string[];
  /** The client that `mint` gets this user's tokens as: the token's `aud` and `azp`. `sallyport-cli` when not given. */
  readonly client?: DemoClient;
}

export type DemoClient = "sallyport-cli" | "agent-reporter";

export interface MintOptions {
  readonly client?: DemoClient;
  readonly lifetimeSeconds?: number;
}

export interface IdentityProviderOptions {
  readonly users: readonly DemoUser[];
  /** 0, the default, is any free one. */
  readonly port?: number;
  /** Of ID tokens and access tokens; an hour when not given. */
  readonly lifetimeSeconds?: number;
}

export interface IdentityProvider {
  readonly issuer: string;
  /** An ID token from the token endpoint, by a grant that only this process can use. */
  mint(userId: string, options?: MintOptions): Promise<string>;
  stop(): Promise<void>;
}

const mintGrant = "urn:sallyport:demo:mint";
const scope = "openid email groups";
const bodyBytesMax = 16_384;

export async function startIdentityProvider(options: IdentityProviderOptions): Promise<IdentityProvider> {
  const users = new Map(options.users.map((user) => [user.id, user]));
  const mintSecret = randomBytes(32).toString("base64url");
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port ?? 0, "127.0.0.1", resolve);
  });
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const provider = await quietly(async () => {
    const { default: OidcProvider } = await import("oidc-provider");
    return new OidcProvider(issuer, await configuration(users, options.lifetimeSeconds ?? 3_600));
  });
  provider.registerGrantType(mintGrant, mintHandler(provider, users, mintSecret), [
    "user",
    "mint_secret",
    "lifetime_seconds",
  ]);
  const handle = provider.callback();
  server.on("request", (request: IncomingMessage, response: ServerResponse) => {
    const answer = request.url?.startsWith("/interaction/")
      ? interact(provider, users, request, response)
      : handle(request, response);
    Promise.resolve(answer).catch((error: Error) => {
      if (!response.headersSent) response.writeHead(400, { "content-type": "text/plain" });
      response.end(`This sign-in cannot go on: ${error.message}\n`);
    });
  });

  return {
    issuer,
    async mint(userId, { client, lifetimeSeconds } = {}) {
      const user = users.get(userId);
      if (user === undefined) throw new Error(`the demo's identity provider has no user "${userId}"`);
      const response = await fetch(`${issuer}/token`, {
        method: "POST",
        body: new URLSearchParams({
          grant_type: mintGrant,
          client_id: client ?? user.client ?? "sallyport-cli",
          user: userId,
          mint_secret: mintSecret,
          ...(lifetimeSeconds !== undefined && { lifetime_seconds: String(lifetimeSeconds) }),
        }),
      });
      const body = (await response.json()) as { id_token?: string; error_description?: string };
      if (body.id_token === undefined) throw new Error(`no token was issued: ${body.error_description}`);
      return body.id_token;
    },
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** The library says on every start that Bun is no supported runtime and that storage is in memory; both are meant. */
async function quietly<Result>(run: () => Promise<Result>): Promise<Result> {
  const { warn, info } = console;
  const pass =
    (print: typeof warn) =>
    (first: unknown, ...rest: unknown[]) => {
      if (!String(first).includes("oidc-provider ")) print(first, ...rest);
    };
  console.warn = pass(warn);
  console.info = pass(info);
  try {
    return await run();
  } finally {
    console.warn = warn;
    console.info = info;
  }
}

async function configuration(users: ReadonlyMap<string, DemoUser>, lifetimeSeconds: number): Promise<Configuration> {
  const { privateKey } = await generateKeyPair("ES256", { extractable: true });
  const key = { ...(await exportJWK(privateKey)), alg: "ES256", use: "sig", kid: randomBytes(8).toString("hex") };
  const client = {
    token_endpoint_auth_method: "none" as const,
    id_token_signed_response_alg: "ES256" as const,
    application_type: "native" as const,
    scope: `${scope} offline_access`,
  };
  return {
    jwks: { keys: [key] } as NonNullable<Configuration["jwks"]>,
    clients: [
      {
        ...client,
        client_id: "sallyport-cli",
        // A native client may use any port of a loopback address (RFC 8252 section 7.3).
        redirect_uris: ["http://127.0.0.1/callback"],
        response_types: ["code"],
        grant_types: ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code", mintGrant],
      },
      { ...client, client_id: "agent-reporter", redirect_uris: [], response_types: [], grant_types: [mintGrant] },
    ],
    claims: { openid: ["sub", "azp"], email: ["email", "email_verified"], groups: ["groups"] },
    conformIdTokenClaims: false,
    scopes: ["openid", "offline_access", "email", "groups"],
    cookies: { keys: [randomBytes(32).toString("base64url")] },
    features: {
      devInteractions: { enabled: false },
      deviceFlow: { enabled: true, ...devicePages },
      userinfo: { enabled: false },
      rpInitiatedLogout: { enabled: false },
    },
    pkce: { required: () => true },
    ttl: {
      AccessToken: lifetimeSeconds,
      AuthorizationCode: 60,
      DeviceCode: 600,
      Grant: 86_400,
      IdToken: lifetimeSeconds,
      Interaction: 600,
      RefreshToken: 86_400,
      Session: 86_400,
    },
    renderError(context, out) {
      context.type = "html";
      context.body = page("This sign-in cannot go on", escapeHtml(`${out.error}: ${out.error_description ?? ""}`));
    },
    interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
    issueRefreshToken: (_context, client_) => client_.grantTypeAllowed("refresh_token"),
    // Who signed in has agreed: this is a demo, and its only client is the product's own.
    async loadExistingGrant({ oidc }) {
      if (oidc.client === undefined || oidc.account === undefined) return undefined;
      const grant = new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.account.accountId });
      grant.addOIDCScope(`${scope} offline_access`);
      await grant.save();
      return grant;
    },
    findAccount: ({ oidc }, id) => {
      const user = users.get(id);
      return user === undefined ? undefined : account(user, oidc.client?.clientId);
    },
  };
}

function account(user: DemoUser, clientId: string | undefined): Account {
  return {
    accountId: user.id,
    claims: () => ({
      sub: user.id,
      groups: user.groups ?? [],
      ...(user.email !== undefined && { email: user.email, email_verified: true }),
      ...(clientId !== undefined && { azp: clientId }),
    }),
  };
}

function mintHandler(provider: Provider, users: ReadonlyMap<string, DemoUser>, secret: string) {
  return async (context: KoaContextWithOIDC): Promise<void> => {
    const { oidc } = context;
    const parameters = oidc.params ?? {};
    const user = users.get(String(parameters.user));
    const client = oidc.client;
    if (parameters.mint_secret !== secret || user === undefined || client === undefined) {
      context.status = 400;
      context.body = { error: "invalid_grant", error_description: "this grant is the demo's own" };
      return;
    }
    const claims = await account(user, client.clientId).claims("id_token", scope, {}, []);
    const token = new provider.IdToken({ ...claims }, { ctx: context });
    // The types leave it out; without it the token has no claims but the subject.
    Object.assign(token, { scope });
    const lifetimeSeconds = parameters.lifetime_seconds === undefined ? undefined : Number(parameters.lifetime_seconds);
    const idToken = await token.issue({
      use: "idtoken",
      ...(lifetimeSeconds !== undefined && { expiresAt: Math.floor(Date.now() / 1_000) + lifetimeSeconds }),
    });
    context.body = { id_token: idToken };
  };
}

/** The sign-in page: a list of users, of whom one is chosen. */
async function interact(
  provider: Provider,
  users: ReadonlyMap<string, DemoUser>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  // Throws unless the browser holds the interaction's own cookie.
  const interaction = await provider.interactionDetails(request, response);
  // `prompt=consent` asks again for what `loadExistingGrant` says was given.
  if (interaction.prompt.name === "consent") {
    const grantId = interaction.grantId;
    return provider.interactionFinished(
      request,
      response,
      { consent: grantId === undefined ? {} : { grantId } },
      { mergeWithLastSubmission: true },
    );
  }
  if (interaction.prompt.name !== "login") throw new Error(`the prompt "${interaction.prompt.name}" is not served`);
  if (request.method === "POST") {
    const chosen = new URLSearchParams(await readBody(request)).get("user") ?? "";
    if (!users.has(chosen)) throw new Error("there is no such user");
    return provider.interactionFinished(request, response, { login: { accountId: chosen } });
  }
  const buttons = [...users.values()].map((user) => {
    const label = `${user.email ?? user.id} (${(user.groups ?? []).join(", ") || "no groups"})`;
    return `<p><button name="user" value="${escapeHtml(user.id)}">${escapeHtml(label)}</button></p>`;
  });
  response.writeHead(200, { "content-type": "text/html; charset=utf-8", "cache-control": "no-store" });
  const choice = `<p>The demo's identity provider asks for no password.</p><form method="post">${buttons.join("")}</form>`;
  response.end(page("Who are you?", choice));
}

/** The device flow's pages; the library's own load fonts from elsewhere. `form` is the library's, with its XSRF token. */
const devicePages = {
  userCodeInputSource(context: KoaContextWithOIDC, form: string, _out?: unknown, error?: unknown): void {
    const wrong = error === undefined ? "" : "<p>That code is not one that is waiting; try again.</p>";
    context.body = page("Enter the code that your terminal shows", `${wrong}${form}${submit("op.deviceInputForm")}`);
  },
  userCodeConfirmSource(context: KoaContextWithOIDC, form: string, _client: unknown, _device: unknown, code: string) {
    const question = `<p>Does your terminal show <code>${escapeHtml(code)}</code>? If not, close this page.</p>`;
    context.body = page("Confirm the code", `${question}${form}${submit("op.deviceConfirmForm")}`);
  },
  successSource(context: KoaContextWithOIDC): void {
    context.body = page("You are logged in", "<p>Go back to your terminal; you can close this page.</p>");
  },
};

function submit(form: string): string {
  return `<p><button type="submit" form="${form}">Continue</button></p>`;
}

/** @param html is put in as it is. */
function page(title: string, html: string): string {
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>${title} - Sallyport demo</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:4rem auto;padding:0 1rem}
button,input{font:inherit;padding:.4rem .8rem}</style>
<h1>${title}</h1>${html}</html>`;
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Uint8Array>) {
    bytes += chunk.byteLength;
    if (bytes > bodyBytesMax) throw new Error("the form is too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

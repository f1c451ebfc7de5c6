/** Accepts PostgreSQL clients: handshake, identity, target, the session's open, and the connection's life. */

import { timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { createSecureContext, type SecureContext } from "node:tls";
import { type Config, type PostgresTarget, readSecret } from "../config.ts";
import { GatewayError } from "../errors.ts";
import { requireUser } from "../identity/bind-user.ts";
import type { Authenticated } from "../identity/verifier.ts";
import { limits } from "../limits.ts";
import { cannotListen } from "../listening.ts";
import type { SessionDependencies } from "../session/dependencies.ts";
import { Session, type SharedState } from "../session/session.ts";
import type { SessionAnalyser } from "./analysed.ts";
import { encodeBackendMessage } from "./backend-encoder.ts";
import { Connection, newCancelKey } from "./connection.ts";
import { Descriptions } from "./descriptions.ts";
import { errorFields } from "./diagnostics.ts";
import { ClientStream, type Handshake, handshake } from "./handshake.ts";
import type { CancelRequest } from "./messages.ts";
import type { StartupRequest } from "./startup.ts";
import { connectUpstream } from "./upstream.ts";
import { MessageWriter } from "./writer.ts";

export interface AnalyserSource {
  /** Names of one database of a target, for one session. */
  forSession(target: PostgresTarget, database: string): SessionAnalyser;
}

export interface PostgresServerOptions {
  readonly config: Config;
  readonly dependencies: SessionDependencies;
  readonly shared: SharedState;
  readonly analysers: AnalyserSource;
  readonly hashKey: Uint8Array;
}

type Caller = Extract<Handshake, { kind: "caller" }>;

export class PostgresServer {
  readonly #options: PostgresServerOptions;
  readonly #server: Server;
  readonly #secureContext: SecureContext | undefined;
  readonly #connections = new Set<Connection>();
  #waiting = 0;
  /** Sessions that are being opened. */
  #opening = 0;
  #draining = false;
  readonly #expiry: ReturnType<typeof setInterval>;

  constructor(options: PostgresServerOptions) {
    this.#options = options;
    const { tls } = options.config;
    this.#secureContext =
      tls && createSecureContext({ cert: readFileSync(tls.cert), key: readFileSync(tls.key), minVersion: "TLSv1.2" });
    this.#server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => void this.#accept(socket));
    this.#expiry = setInterval(() => this.#cutExpired(), limits.expiryCheckMs);
  }

  /** @returns the port. @throws GatewayError config.invalid where it cannot be had */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", (cause) => reject(cannotListen("listen.postgres", { host, port }, cause)));
      this.#server.listen(port, host, () => {
        const address = this.#server.address();
        resolve(typeof address === "object" && address !== null ? address.port : port);
      });
    });
  }

  get sessions(): number {
    return this.#connections.size;
  }

  /** No new session; the open ones get `drainMs`, then they are told why, ended and their recordings sealed. */
  async drain(drainMs: number, error = shuttingDown()): Promise<void> {
    this.#draining = true;
    this.#server.close();
    const until = Date.now() + drainMs;
    while (this.#connections.size + this.#opening > 0 && Date.now() < until) await Bun.sleep(50);
    const open = [...this.#connections];
    for (const connection of open) connection.end("drained", error);
    clearInterval(this.#expiry);
    await Promise.allSettled([...this.#closing, ...open.map((connection) => connection.told())]);
  }

  readonly #closing = new Set<Promise<void>>();

  #cutExpired(): void {
    const now = Date.now();
    for (const connection of this.#connections) {
      if (now >= connection.session.expiresAtMs) {
        connection.end(
          "expired",
          new GatewayError("session.expired", "the token of this session has expired", {
            hint: "Get a new token and connect again.",
          }),
        );
      }
    }
  }

  async #accept(socket: Socket): Promise<void> {
    const { log } = this.#options.dependencies;
    socket.on("error", () => undefined);
    if (this.#waiting >= limits.unauthenticatedConnectionsMax || this.#connections.size >= limits.connectionsMax) {
      return refuse(socket, new GatewayError("session.too_many", "too many connections to the gateway"));
    }
    this.#waiting += 1;
    const stream = new ClientStream(socket);
    let asked: { readonly user: string; readonly database: string } | undefined;
    const timer = setTimeout(() => {
      refuse(stream.socket, new GatewayError("protocol.timeout", "the client did not log in in time"));
    }, limits.startupTimeoutMs);
    try {
      const result = await handshake(stream, {
        secureContext: this.#secureContext,
        authentication: this.#options.config.postgres.authentication,
        oauth: announcedOAuth(this.#options.config),
      });
      clearTimeout(timer);
      if (result.kind === "cancel") {
        // As the target does: who waits for the end of this connection knows that what it sends next is not hit.
        await this.#cancel(result.request);
        stream.socket.destroy();
      } else if (result.kind === "closed") {
        stream.socket.destroy();
      } else {
        asked = result.startup;
        this.#opening += 1;
        await this.#open(result).finally(() => {
          this.#opening -= 1;
        });
      }
    } catch (fault) {
      const error =
        fault instanceof GatewayError
          ? fault
          : new GatewayError("internal", "the gateway met a fault", { cause: fault });
      log.warn("connection refused", {
        address: socket.remoteAddress,
        // As the client says, which may not be who it is.
        user: asked?.user.slice(0, 128),
        database: asked?.database.slice(0, 128),
        code: error.code,
        error: error.message,
        cause: error.cause,
      });
      refuse(stream.socket, error);
    } finally {
      clearTimeout(timer);
      this.#waiting -= 1;
    }
  }

  /** A key reaches its own session only; a wrong one is ignored, as PostgreSQL does. */
  async #cancel(request: CancelRequest): Promise<void> {
    // Backends of two targets may have the same process id.
    for (const connection of this.#connections) {
      const { processId, secretKey } = connection.key;
      if (processId !== request.processId || secretKey.length !== request.secretKey.length) continue;
      if (timingSafeEqual(secretKey, request.secretKey)) return connection.cancel();
    }
  }

  async #open(caller: Caller): Promise<void> {
    const { config, dependencies, shared } = this.#options;
    const { stream, startup } = caller;
    if (this.#draining) throw shuttingDown();
    const authenticated = await this.#identify(caller);
    const { target, database } = findTarget(config, startup.database);
    const session = await Session.open(dependencies, shared, {
      authenticated,
      target: { name: target.name, kind: target.kind, database, labels: target.labels },
      client: { address: stream.address ?? "", application: startup.applicationName },
      context: {
        reason: startup.context.reason ?? "",
        prompt: startup.context.prompt ?? "",
        ticket: startup.context.ticket ?? "",
        trace: "",
      },
    });
    try {
      await this.#serve(session, target, database, stream, startup);
    } catch (fault) {
      await session.close("fault", fault instanceof GatewayError ? fault.message : "fault");
      throw fault;
    }
  }

  /** Refuses in PostgreSQL's words, by which clients know to ask for another password, and says why behind them. */
  async #identify({ stream, startup, credentials }: Caller): Promise<Authenticated> {
    const { config, dependencies } = this.#options;
    const { user } = startup;
    try {
      const authenticated = await dependencies.verifier.verify(credentials.token);
      requireUser(authenticated.identity, user);
      return authenticated;
    } catch (fault) {
      if (!(fault instanceof GatewayError) || fault.code === "identity.keys_unavailable") throw fault;
      // The deadline for logging in ended with the handshake; a client that never answers must not stay.
      const timer = setTimeout(() => stream.socket.destroy(), limits.startupTimeoutMs);
      try {
        await credentials.rejected();
      } finally {
        clearTimeout(timer);
      }
      const method = config.postgres.authentication === "password" ? "password" : "OAuth bearer";
      throw new GatewayError(
        fault.code,
        `${method} authentication failed for user "${user.slice(0, 128)}": ${fault.message}`,
        { ...(fault.hint !== undefined && { hint: fault.hint }), cause: fault.cause },
      );
    }
  }

  async #serve(
    session: Session,
    target: PostgresTarget,
    database: string,
    stream: ClientStream,
    startup: StartupRequest,
  ): Promise<void> {
    const { config, dependencies, analysers, hashKey } = this.#options;
    const upstream = await connectUpstream({
      ...upstreamAddress(target),
      database,
      parameters: startup.settings,
    });
    if (this.#draining) {
      upstream.destroy();
      throw shuttingDown();
    }
    const analyser = analysers.forSession(target, database);
    stream.release();
    const connection = new Connection({
      stream,
      upstream,
      key: newCancelKey(startup.minor, upstream.processId),
      run: {
        session,
        analyser,
        hashKey,
        rowBytesMax: config.store.recording.rows_bytes_per_command,
        descriptions: new Descriptions(),
      },
      onEnd: (reason, error) => {
        this.#connections.delete(connection);
        const message = error instanceof GatewayError ? error.message : undefined;
        if (reason === "fault") dependencies.log.warn("session ended by a fault", { session: session.id, error });
        const closing: Promise<void> = session
          .close(reason, message)
          .catch((cause) =>
            dependencies.log.error("a recording could not be sealed", { session: session.id, error: cause }),
          )
          .finally(() => this.#closing.delete(closing));
        this.#closing.add(closing);
      },
    });
    this.#connections.add(connection);
    connection.attach();
    if (connection.ended) return;
    try {
      await connection.readNames();
    } catch (fault) {
      connection.end("fault", fault);
      return;
    }
    connection.start();
  }
}

const shuttingDown = () =>
  new GatewayError("session.draining", "the gateway is shutting down", { hint: "Connect again." });

/** A client can be sent to one issuer only: the configured one, or the first; tokens of the others are accepted as well. */
function announcedOAuth({ postgres, identity }: Config) {
  return { issuer: postgres.oauth.issuer ?? identity.issuers[0]?.issuer ?? "", scope: postgres.oauth.scope };
}

/** Where and as whom a target is reached. The secret is read at each use, so that a rotated one is taken up. */
function upstreamAddress(target: PostgresTarget) {
  const { credential } = target;
  return {
    host: target.address.host,
    port: target.address.port,
    tls: target.tls,
    ...(target.ca && { ca: readFileSync(target.ca, "utf8") }),
    ...(target.server_name && { serverName: target.server_name }),
    user: credential.user,
    ...(credential.password && { password: readSecret(credential.password, `password of target ${target.name}`) }),
  };
}

/** "target" or "target/dbname". @throws GatewayError session.target_unknown, which does not say what targets exist */
function findTarget(config: Config, name: string): { target: PostgresTarget; database: string } {
  const slash = name.indexOf("/");
  const targetName = slash < 0 ? name : name.slice(0, slash);
  const target = config.targets.find((candidate) => candidate.name === targetName && candidate.kind === "postgres");
  const database = slash < 0 ? target?.database : name.slice(slash + 1);
  if (
    target === undefined ||
    database === undefined ||
    (database !== target.database && !target.databases.includes(database))
  ) {
    throw new GatewayError("session.target_unknown", `no target "${name.slice(0, 128)}"`, {
      hint: "Give a target's name as the database, or target/dbname for another database that is configured for it.",
    });
  }
  return { target, database };
}

function refuse(socket: Socket, error: GatewayError): void {
  const writer = new MessageWriter();
  encodeBackendMessage(writer, { type: "ErrorResponse", fields: errorFields(error, "FATAL") });
  socket.end(writer.take());
  setTimeout(() => socket.destroy(), 1_000).unref();
}

/** `bun run bench postgres [options]`. */
const [name] = process.argv.slice(2);
if (name !== "postgres") {
  console.error("usage: bun run bench postgres [--rounds N] [--seconds N] [--rows N] [--only …]");
  process.exit(2);
}
await import("./postgres.ts");

export {};

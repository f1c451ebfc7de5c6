/** `bun run bench postgres|impact [options]`. */
const [name] = process.argv.slice(2);
switch (name) {
  case "postgres":
    await import("./postgres.ts");
    break;
  case "impact":
    await import("./impact.ts");
    break;
  default:
    console.error(
      "usage: bun run bench postgres [--rounds N] [--seconds N] [--rows N] [--only …]\n       bun run bench impact [--commands N] [--statements N] [--rounds N] [--threads N] [--check]",
    );
    process.exit(2);
}

export {};

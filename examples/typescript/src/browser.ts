// In a browser: `index.html#node=…&key=…&to=…&amount=…` shows the outcome; with `&report=PATH` it is sent there as well.

import { demo } from './demo';

async function run(): Promise<string> {
    const given = new URLSearchParams(location.hash.slice(1));
    const value = (name: string) => {
        const found = given.get(name);
        if (found === null) throw new Error(`nothing is given for "${name}" in the address, after #`);
        return found;
    };
    const outcome = await demo({
        node: value('node'),
        key: value('key'),
        to: value('to'),
        amount: BigInt(value('amount')),
    });
    return JSON.stringify(outcome, null, 2);
}

run()
    .catch((error) => JSON.stringify({ error: String(error?.stack ?? error) }))
    .then(async (text) => {
        document.getElementById('outcome')!.textContent = text;
        const report = new URLSearchParams(location.hash.slice(1)).get('report');
        if (report !== null) await fetch(report, { method: 'POST', body: text });
    });

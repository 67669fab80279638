CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, country TEXT);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL,
    amount_cents INTEGER NOT NULL,
    currency TEXT NOT NULL
);
INSERT INTO customers VALUES (1, 'Ann', 'DE'), (2, 'Bob', 'US'), (3, 'Cho', NULL);
INSERT INTO orders VALUES
    (1, 1, 1250, 'EUR'),
    (2, 2, 89900, 'USD'),
    (3, 1, 50, 'EUR'),
    (4, 3, 250000, 'USD'),
    (5, 2, 4900, 'XXX'),
    (6, 1, 9900, 'EUR');

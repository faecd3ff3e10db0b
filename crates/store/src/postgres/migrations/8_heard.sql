-- needs 6: a program that does not know it remembers nobody who wrote, and sends templates.

-- When a person last wrote to a connection, by the key of their address.
CREATE TABLE heard (merchant uuid NOT NULL, who text NOT NULL, connection uuid NOT NULL, at timestamptz NOT NULL,
    PRIMARY KEY (merchant, who, connection));

-- Fills user_logins of one shard, unless it has rows already: thirty days of logins of no real person, the same
-- rows for the same numbers. Two values may be set before, with sp_set_session_context:
--
--   shard   which shard this is (1): users and rows differ from shard to shard
--   rows    how many logins (100000)

USE logins;
GO

SET NOCOUNT ON;
SET XACT_ABORT ON;

DECLARE @shard int = ISNULL(CAST(SESSION_CONTEXT(N'shard') AS int), 1);
DECLARE @rows int = ISNULL(CAST(SESSION_CONTEXT(N'rows') AS int), 100000);
DECLARE @start datetime2(3) = '2026-01-01T00:00:00';
DECLARE @seconds bigint = 30 * 24 * 60 * 60;

BEGIN TRANSACTION;

-- The lock keeps a second run from filling the table at the same time.
IF NOT EXISTS (SELECT 1 FROM dbo.user_logins WITH (TABLOCKX, HOLDLOCK))
BEGIN
    WITH digits AS (
        SELECT d FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS list (d)
    ),
    numbers AS (
        SELECT TOP (@rows) ROW_NUMBER() OVER (ORDER BY (SELECT NULL)) AS n
        FROM digits AS a
        CROSS JOIN digits AS b
        CROSS JOIN digits AS c
        CROSS JOIN digits AS d
        CROSS JOIN digits AS e
        CROSS JOIN digits AS f
        CROSS JOIN digits AS g
    ),
    -- Bytes that look random and are the same every time.
    dice AS (
        SELECT n, HASHBYTES('SHA2_256', CONCAT(@shard, ':', n)) AS row_dice
        FROM numbers
    ),
    visits AS (
        SELECT
            n,
            row_dice,
            -- Squared: some users log in often, most a few times.
            @shard * 1000000 + 1
                + CAST(POWER(CAST(CAST(SUBSTRING(row_dice, 1, 3) AS int) AS float) / 16777216, 2) * (@rows / 12 + 1) AS int)
                AS user_id,
            -- Every fiftieth login shares its instant with the one before.
            n - 1 - CASE WHEN n % 50 = 0 THEN 1 ELSE 0 END AS slot
        FROM dice
    ),
    users AS (
        SELECT n, row_dice, user_id, slot, HASHBYTES('SHA2_256', CONCAT('user ', user_id)) AS user_dice
        FROM visits
    ),
    -- Public networks in the United States, India, China, Brazil, Germany, Great Britain, France, Japan, Russia, Italy.
    networks AS (
        SELECT number, network
        FROM (VALUES
            (0, '24.16'), (1, '73.231'), (2, '98.207'), (3, '27.7'), (4, '117.195'), (5, '59.250'), (6, '36.158'), (7, '177.48'),
            (8, '31.254'), (9, '78.51'), (10, '86.7'), (11, '82.228'), (12, '60.69'), (13, '119.72'), (14, '5.167'), (15, '37.101')
        ) AS list (number, network)
    ),
    agents AS (
        SELECT number, agent
        FROM (VALUES
            (0, N'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36'),
            (1, N'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36 Edg/143.0.0.0'),
            (2, N'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:146.0) Gecko/20100101 Firefox/146.0'),
            (3, N'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36'),
            (4, N'Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Mobile Safari/537.36'),
            (5, N'Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.2 Mobile/15E148 Safari/604.1'),
            (6, N'Mozilla/5.0 (iPad; CPU OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.1 Mobile/15E148 Safari/604.1'),
            (7, N'Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)')
        ) AS list (number, agent)
    )
    INSERT INTO dbo.user_logins (user_id, login_time, ip_address, user_agent)
    SELECT
        users.user_id,
        DATEADD(millisecond, CAST(users.slot * 7919 % 1000 AS int),
            DATEADD(second, CAST(users.slot * @seconds / @rows AS int), @start)),
        -- What proxies, test machines and broken clients leave in such a column, and now and then nothing.
        CASE CAST(SUBSTRING(users.row_dice, 4, 1) AS int)
            WHEN 0 THEN NULL
            WHEN 1 THEN '192.168.1.23'
            WHEN 2 THEN '127.0.0.1'
            WHEN 3 THEN '2001:4860:4860::8888'
            WHEN 4 THEN '999.12.3.4'
            WHEN 5 THEN 'unknown'
            ELSE CONCAT(networks.network, '.', CAST(SUBSTRING(users.user_dice, 2, 1) AS int), '.',
                CAST(SUBSTRING(users.user_dice, 3, 1) AS int))
        END,
        CASE WHEN SUBSTRING(users.row_dice, 5, 1) = 0x00 THEN NULL ELSE agents.agent END
    FROM users
    JOIN networks ON networks.number = CAST(SUBSTRING(users.user_dice, 1, 1) AS int) % 16
    -- Two devices per user.
    JOIN agents ON agents.number = CAST(SUBSTRING(users.user_dice, 4 + CAST(SUBSTRING(users.row_dice, 6, 1) AS int) % 2, 1) AS int) % 8
    ORDER BY users.n;
END;

COMMIT TRANSACTION;
GO
